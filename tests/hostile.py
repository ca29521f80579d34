"""Two hundred files that a folder of photographs should not hold, and does."""

import io
import os
import random
import struct
import zlib

import numpy as np
import tifffile
from helpers import make_noise, make_photo
from PIL import Image

FORMATS = {"jpg": "JPEG", "png": "PNG", "tif": "TIFF", "webp": "WEBP", "bmp": "BMP", "gif": "GIF"}
SEVERAL_PAGES, PAGES = "animated.tif", 5  # every page of a TIFF is a photograph of its own


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(
        buffer, kind, **options
    )
    return buffer.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, data=b"123", bits=8, color=2, more=b""):
    """A PNG whose header says what it likes."""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0))
        + more
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


def zeros(count):
    """So many zero bytes, compressed without ever being there."""
    packer, pieces = zlib.compressobj(9), []
    for _ in range(count // 2**20):
        pieces.append(packer.compress(bytes(2**20)))
    return b"".join([*pieces, packer.compress(bytes(count % 2**20)), packer.flush()])


def rewritten(data, offset, layout, *values):
    """The bytes of a file with a piece of its header replaced."""
    piece = struct.pack(layout, *values)
    return data[:offset] + piece + data[offset + len(piece) :]


def make_files():
    """(name, bytes, what must become of it: "colored", "named" or "either")."""
    noise, photo = make_noise(3, 60, 80), make_photo(5, 60, 80)
    whole = {suffix: encoded(noise, kind) for suffix, kind in FORMATS.items()}
    whole["progressive.jpg"] = encoded(noise, "JPEG", progressive=True)
    for suffix, data in whole.items():
        for tenth in range(1, 10):
            yield f"truncated at {tenth} tenths.{suffix}", data[: len(data) * tenth // 10], "named"
        dice = random.Random(suffix)
        for i in range(9):
            flipped = bytearray(data)
            for _ in range(2**i if i < 6 else 1):
                flipped[dice.randrange(len(data) if i < 6 else 64)] ^= dice.randrange(1, 256)
            yield f"flipped {i}.{suffix}", bytes(flipped), "either"

    for width, height in (
        (2**31 - 1, 2**31 - 1),
        (2**31 - 1, 1),
        (1, 2**31 - 1),
        (2**32 - 1, 2),
        (65_500, 65_500),
        (14_000, 14_000),
    ):
        yield f"header says {width} x {height}.png", png(width, height), "named"
    yield "header says 65535 x 65535.gif", rewritten(whole["gif"], 6, "<HH", 65535, 65535), "named"
    yield "header says 65500 x 65500.bmp", rewritten(whole["bmp"], 18, "<ii", 65500, 65500), "named"
    yield "header says -2 x -2.bmp", rewritten(whole["bmp"], 18, "<ii", -2, -2), "named"
    frame = whole["jpg"].index(b"\xff\xc0")
    yield (
        "header says 65535 x 65535.jpg",
        rewritten(whole["jpg"], frame + 5, ">HH", 65535, 65535),
        "named",
    )
    yield "no pixel.png", png(0, 0), "named"
    yield "no height.png", png(5, 0), "named"
    yield "no pixel.bmp", rewritten(whole["bmp"], 18, "<ii", 0, 0), "named"
    yield "no pixel.gif", b"GIF89a" + struct.pack("<HHBBB", 0, 0, 0, 0, 0) + b";", "named"

    yield (
        "bomb of 900 megapixels.png",
        png(30_000, 30_000, zeros(30_000 * 3751), bits=1, color=0),
        "named",
    )
    yield (
        "48 megapixels in a few bytes.png",
        png(8000, 6000, zeros(6000 * 1001), bits=1, color=0),
        "colored",
    )
    yield (
        "bomb in the text.png",
        png(8, 8, zlib.compress(bytes(8 * 25)), more=chunk(b"zTXt", b"a\0\0" + zeros(2**28))),
        "either",
    )
    yield (
        "bomb in the profile.png",
        png(8, 8, zlib.compress(bytes(8 * 25)), more=chunk(b"iCCP", b"a\0\0" + zeros(2**28))),
        "either",
    )

    for suffix, kind in FORMATS.items():
        yield f"one pixel.{suffix}", encoded(noise[:1, :1], kind), "colored"
    for suffix in ("png", "jpg"):
        yield f"30000 wide.{suffix}", encoded(make_photo(1, 10, 30_000), FORMATS[suffix]), "colored"
        yield f"30000 high.{suffix}", encoded(make_photo(1, 30_000, 10), FORMATS[suffix]), "colored"

    yield "cmyk.jpg", encoded(Image.fromarray(photo).convert("CMYK"), "JPEG"), "colored"
    yield "cmyk.tif", encoded(Image.fromarray(photo).convert("CMYK"), "TIFF"), "colored"
    yield "16 bit.png", encoded(photo[..., 0].astype(np.uint16) * 257, "PNG"), "colored"
    yield "16 bit.tif", encoded(photo[..., 0].astype(np.uint16) * 257, "TIFF"), "colored"
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, photo.astype(np.uint16) * 257, photometric="rgb")
    yield "16 bit in three colors.tif", buffer.getvalue(), "colored"
    yield "floating point.tif", encoded(photo[..., 0].astype(np.float32) / 255, "TIFF"), "colored"
    for name, values, fate in (
        ("white is zero.tif", {"data": noise[..., 0], "photometric": "miniswhite"}, "colored"),
        ("numbers up to 255.tif", {"data": noise[..., 0].astype(np.float32)}, "named"),
        ("signed and dark.tif", {"data": -noise[..., 0].astype(np.int16)}, "named"),
        ("deep.tif", {"data": noise.astype(np.uint32) * 2**24, "photometric": "rgb"}, "colored"),
    ):
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, **values)
        yield name, buffer.getvalue(), fate
    yield "not a number.tif", encoded(np.full((20, 20), np.nan, np.float32), "TIFF"), "named"
    for suffix in ("png", "tif"):
        yield (
            f"1 bit.{suffix}",
            encoded(Image.fromarray(photo).convert("1"), FORMATS[suffix]),
            "colored",
        )
    palette = Image.fromarray(photo).quantize(20)
    for suffix in ("png", "gif"):
        yield (
            f"palette with transparency.{suffix}",
            encoded(palette, FORMATS[suffix], transparency=3),
            "colored",
        )
    for mode in ("LA", "RGBA"):
        yield f"{mode}.png", encoded(Image.fromarray(photo).convert(mode), "PNG"), "colored"
    yield "transparent.webp", encoded(Image.fromarray(photo).convert("RGBA"), "WEBP"), "colored"
    frames = [Image.fromarray(make_photo(seed, 60, 80)) for seed in range(PAGES)]
    for suffix in ("gif", "webp", "png", "tif"):
        yield (
            f"animated.{suffix}",
            encoded(frames[0], FORMATS[suffix], save_all=True, append_images=frames[1:]),
            "colored",
        )
    yield (
        "several pictures.jpg",
        encoded(frames[0], "MPO", save_all=True, append_images=frames[1:]),
        "colored",
    )

    jpeg = encoded(photo, "JPEG")
    exif = Image.Exif()
    exif[0x0112] = 99
    yield "turned by 99.jpg", encoded(photo, "JPEG", exif=exif), "colored"
    yield (
        "garbage for exif.jpg",
        encoded(photo, "JPEG", exif=b"Exif\0\0II*\0garbage, and not a list of tags" * 9),
        "colored",
    )
    exif = encoded(photo, "JPEG", exif=Image.Exif())
    yield (
        "exif that points nowhere.jpg",
        jpeg[:2] + b"\xff\xe1\x00\x1cExif\0\0II*\0\xf0\xff\xff\xff" + bytes(12) + jpeg[2:],
        "colored",
    )
    yield (
        "garbage for a profile.jpg",
        encoded(photo, "JPEG", icc_profile=b"no profile" * 20),
        "colored",
    )
    yield "no end.jpg", jpeg[:-2], "colored"
    yield "more after its end.jpg", jpeg + b"PK\3\4" + bytes(range(256)) * 20, "colored"

    yield "really heic.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500), "named"
    yield (
        "a program.eps",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/tmp/x) (w) file\n",
        "named",
    )
    yield (
        "a program.jpg",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/tmp/x) (w) file\n",
        "named",
    )
    for name, start in (
        ("text", b"Dear diary"),
        ("page", b"<!doctype html>"),
        ("drawing", b"<svg xmlns='a'/>"),
        ("paper", b"%PDF-1.7"),
        ("archive", b"PK\3\4"),
        ("film", b"\0\0\0\x20ftypisom"),
        ("pickle", b"\x80\x04\x95"),
        ("empty", b""),
    ):
        yield f"{name}.jpg", start * 40, "named"

    for name in (
        "with space",
        "new\nline",
        "Zürich 東京",
        "🐨",
        "ktav עברית",
        "'quo\"tes'",
        "[1938]",
        "%s%n",
        "-rf",
        "a" * 240,
        "名" * 80,
        "dots.in..it",
        "COM1",
        "semi;colon & more",
        "tab\tand\rreturn",
        os.fsdecode(b"not \xff\xfe text"),
    ):
        yield f"{name}.png", encoded(photo, "PNG"), "colored"


def make_hostile(folder):
    """Writes all of them, and what only a file system can hold: path -> what must become of it."""
    expected = {}
    for name, data, fate in make_files():
        (folder / name).write_bytes(data)
        expected[folder / name] = fate
    for name, target, fate in (
        ("loop.jpg", "loop.jpg", "named"),
        ("to.jpg", "fro.jpg", "named"),
        ("fro.jpg", "to.jpg", "named"),
        ("nowhere.jpg", "nothing.jpg", "named"),
        ("device.jpg", "/dev/zero", "named"),
        ("link.jpg", "cmyk.jpg", "colored"),
    ):
        (folder / name).symlink_to(target)
        expected[folder / name] = fate
    (folder / "circle").symlink_to(".")
    os.mkfifo(folder / "pipe.jpg")
    expected[folder / "pipe.jpg"] = "named"
    (folder / "secret.png").write_bytes(encoded(make_photo(5, 60, 80), "PNG"))
    (folder / "secret.png").chmod(0)
    expected[folder / "secret.png"] = "named" if os.geteuid() else "colored"
    return expected
