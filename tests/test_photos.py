"""Any file, list of urls or collection -> RGB photographs; the awkward files are made here."""

import hashlib
import io
import os
import struct
import tarfile
import xml.etree.ElementTree
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from helpers import assert_one_sentence, files_in, full_disk, make_noise, make_photo, save
from PIL import Image, ImageCms

from koala_utils import downloads, photos
from koala_utils.downloads import download, find_photos
from koala_utils.photos import (
    PhotoError,
    load_photo,
    read_photo,
    read_photo_and_metadata,
    save_photo,
)

UPRIGHT = {  # EXIF orientation -> what turns the stored pixels upright
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


def with_orientation(orientation, **tags):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for tag, value in tags.items():
        exif[int(tag[1:], 16)] = value
    return exif


def only_value(path):
    """The one colour of a photograph that has but one."""
    rgb = read_photo(path)
    assert rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[-1] == 3
    assert (rgb == rgb[0, 0]).all()
    return rgb[0, 0].tolist()


# ---------------------------------------------------------------- rotation and colour modes


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_rotation_is_applied(tmp_path, orientation):
    stored = make_noise(1, 6, 10)
    path = save(stored, tmp_path / "a.png", exif=with_orientation(orientation))
    assert np.array_equal(read_photo(path), UPRIGHT[orientation](stored))


def test_exif_rotation_is_applied_to_jpeg(tmp_path):
    stored = make_photo(1, 24, 40)
    path = save(stored, tmp_path / "a.jpg", exif=with_orientation(6), quality=100, subsampling=0)
    rgb = read_photo(path)
    assert rgb.shape == (40, 24, 3)
    assert np.abs(rgb.astype(int) - np.rot90(stored, -1)).mean() < 2


def test_exif_rotation_is_applied_to_16_bit_grey(tmp_path):
    stored = np.arange(24, dtype=np.uint16).reshape(4, 6) * 2570
    path = save(stored, tmp_path / "a.png", exif=with_orientation(8))
    assert np.array_equal(read_photo(path)[..., 0], np.rot90(stored // 257, 1))


@pytest.mark.parametrize("suffix, tolerance", [("jpg", 3), ("tif", 0)])
@pytest.mark.parametrize(
    "cmyk, rgb",
    [
        ((0, 0, 0, 0), [255, 255, 255]),
        ((255, 0, 0, 0), [0, 255, 255]),
        ((0, 255, 255, 0), [255, 0, 0]),
        ((0, 0, 0, 255), [0, 0, 0]),
    ],
)
def test_cmyk_becomes_rgb(tmp_path, suffix, tolerance, cmyk, rgb):
    path = tmp_path / f"a.{suffix}"
    Image.new("CMYK", (16, 16), cmyk).save(path)
    assert np.abs(np.subtract(only_value(path), rgb)).max() <= tolerance


def test_palette_becomes_its_colors(tmp_path):
    image = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) % 3, "L").convert("P")
    image.putpalette([255, 0, 0, 0, 200, 10, 5, 6, 7])
    image.save(tmp_path / "a.png")
    assert read_photo(tmp_path / "a.png")[0].tolist() == [[255, 0, 0], [0, 200, 10], [5, 6, 7]]


def test_transparent_palette_entry_becomes_white(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "L").convert("P")
    image.putpalette([255, 0, 0, 0, 200, 10])
    image.save(tmp_path / "a.png", transparency=0)
    assert read_photo(tmp_path / "a.png").tolist() == [[[255, 255, 255], [0, 200, 10]]]


@pytest.mark.parametrize(
    "mode, value, expected",
    [
        ("RGBA", (10, 20, 30, 0), [255, 255, 255]),
        ("RGBA", (10, 20, 30, 255), [10, 20, 30]),
        ("RGBA", (0, 0, 200, 128), [127, 127, 227]),
        ("LA", (40, 255), [40, 40, 40]),
        ("LA", (0, 128), [127, 127, 127]),
        ("L", 77, [77, 77, 77]),
        ("1", 1, [255, 255, 255]),
        ("1", 0, [0, 0, 0]),
    ],
)
def test_alpha_is_laid_on_white_and_grey_is_repeated(tmp_path, mode, value, expected):
    Image.new(mode, (3, 2), value).save(tmp_path / "a.png")
    assert np.abs(np.subtract(only_value(tmp_path / "a.png"), expected)).max() <= 1


def test_color_that_a_png_declares_transparent_becomes_white(tmp_path):
    save(
        np.array([[[255, 0, 0], [0, 9, 0]]], np.uint8), tmp_path / "a.png", transparency=(255, 0, 0)
    )
    assert read_photo(tmp_path / "a.png").tolist() == [[[255, 255, 255], [0, 9, 0]]]


# ---------------------------------------------------------------- more than 8 bits


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_keeps_its_scale(tmp_path, suffix):
    values = np.array([[0, 257, 25700, 32768, 65535]], np.uint16)
    path = save(values, tmp_path / f"a.{suffix}")
    assert read_photo(path)[0].tolist() == [[v, v, v] for v in (0, 1, 100, 128, 255)]


def test_jpeg_is_decoded_small_where_that_will_do(tmp_path):
    photo = photos.read_photo(downloads.find_photos("bundled")[3])
    large = np.asarray(Image.fromarray(photo).resize((2400, 1600), Image.LANCZOS))
    path = save(large, tmp_path / "large.jpg")
    assert read_photo(path).shape == (1600, 2400, 3)
    for asked, got in (
        (100, (200, 300)),
        (400, (400, 600)),
        (401, (800, 1200)),
        (1600, (1600, 2400)),
        (5000, (1600, 2400)),
    ):
        assert read_photo(path, short_side=asked).shape[:2] == got
    whole, part = (
        photos.resize_short_side(read_photo(path, short_side=side), 224).astype(int)
        for side in (None, 448)
    )
    assert (
        whole.shape == part.shape
        and np.abs(whole - part).mean() < 1
        and np.abs(whole - part).max() < 16
    )
    assert read_photo(save(large[:64], tmp_path / "strip.png"), short_side=8).shape == (
        64,
        2400,
        3,
    )  # a PNG has one size


def test_16_bit_grey_of_the_other_byte_order_keeps_its_scale(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0, 25700, 65535]], np.uint16), byteorder=">")
    assert read_photo(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 100, 255]


def test_16_bit_color_tiff_keeps_its_scale(tmp_path):
    values = np.array([[[0, 25700, 65535], [32768, 257, 5140]]], np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb")
    assert read_photo(tmp_path / "a.tif").tolist() == [[[0, 100, 255], [128, 1, 20]]]


def test_16_bit_color_png_keeps_its_scale(tmp_path):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    row = b"\0" + np.array([0, 25700, 65535], ">u2").tobytes()
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(row))
        + chunk(b"IEND", b"")
    )
    assert read_photo(tmp_path / "a.png").tolist() == [[[0, 100, 255]]]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_white_is_1_in_floating_point_and_what_is_brighter_is_clipped(tmp_path, dtype):
    values = np.array([[0, 0.2, 0.5, 1, 9, -0.1]], dtype)
    tifffile.imwrite(tmp_path / "a.tif", values)
    read = read_photo(tmp_path / "a.tif")[0, :, 0]
    assert np.abs(read - np.array([0, 51, 127.5, 255, 255, 0])).max() <= 0.5


@pytest.mark.parametrize("dtype, top", [(np.float32, 255), (np.float32, 65535), (np.int16, -9000)])
def test_numbers_mostly_beyond_black_or_white_are_refused(tmp_path, dtype, top):
    tifffile.imwrite(tmp_path / "a.tif", np.linspace(0, top, 60).reshape(6, 10).astype(dtype))
    refuse(tmp_path / "a.tif", "white is")


@pytest.mark.parametrize(
    "dtype, white",
    [(np.uint8, 255), (np.int16, 32767), (np.uint32, 2**32 - 1), (np.int32, 2**31 - 1)],
)
def test_white_is_the_largest_number_of_the_type(tmp_path, dtype, white):
    values = (np.array([[0, 0.2, 0.6, 1]]) * white).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values)
    assert read_photo(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 51, 153, 255]


def test_32_bit_integers_that_fit_into_16_are_read_as_16_bit(tmp_path):
    save(np.array([[0, 25700, 65535, 70000, -5]], np.int32), tmp_path / "a.tif")
    assert read_photo(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 100, 255, 255, 0]


def test_16_bit_grey_where_white_is_zero_is_no_negative(tmp_path):
    values = np.array([[0, 25700, 65535]], np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", 65535 - values, photometric="miniswhite")
    assert read_photo(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 100, 255]


def test_12_bit_packed_tiff_keeps_its_scale(tmp_path):
    values = np.array([[0, 4095], [2056, 1028]], ">u2")
    bits = np.unpackbits(values.view(np.uint8).reshape(2, 2, 2), axis=-1)[..., 4:]
    tags = {
        256: 2,
        257: 2,
        258: 12,
        259: 1,
        262: 1,
        273: 8 + 2 + 12 * 9 + 4,
        277: 1,
        278: 2,
        279: 6,
    }
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    (tmp_path / "a.tif").write_bytes(
        b"II*\0\x08\0\0\0" + struct.pack("<H", 9) + entries + bytes(4) + np.packbits(bits).tobytes()
    )
    assert read_photo(tmp_path / "a.tif")[..., 0].tolist() == [[0, 255], [128, 64]]


@pytest.mark.parametrize("mode", ["L", "I;16", "P", "RGB", "RGBA", "CMYK", "1"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_uncompressed_tiff_is_turned_in_every_mode(tmp_path, mode, orientation):
    image = Image.fromarray(make_photo(1, 24, 40))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    else:
        image = image.quantize(64) if mode == "P" else image.convert(mode)
    image.save(tmp_path / "a.tif", tiffinfo={274: orientation})
    image.save(tmp_path / "plain.tif")
    plain = read_photo(tmp_path / "plain.tif")
    assert np.array_equal(read_photo(tmp_path / "a.tif"), UPRIGHT[orientation](plain))


@pytest.mark.parametrize("compression", ["group4", "tiff_lzw", "jpeg", "packbits", "tiff_deflate"])
def test_compressed_tiff_is_read_as_pillow_reads_it(tmp_path, compression):
    image = Image.fromarray(make_photo(2))
    image = image.convert("1") if compression == "group4" else image
    image.save(tmp_path / "a.tif", compression=compression)
    with Image.open(tmp_path / "a.tif") as stored:
        expected = np.asarray(stored.convert("RGB")).astype(int)
    assert np.abs(read_photo(tmp_path / "a.tif") - expected).max() <= 2


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_palette_of_a_tiff_with_few_bits_becomes_its_colors(tmp_path, bits):
    colors = np.zeros((3, 2**bits), np.uint16)
    colors[:, :2] = [[65535, 2570], [0, 51400], [257, 0]]
    pixels = np.array([[0, 1] * 8], bool if bits == 1 else np.uint8)
    options = {"photometric": "palette", "colormap": colors, "compression": "packbits"}
    if bits < 8:
        stored = np.packbits(pixels) if bits == 1 else np.frombuffer(b"\1" * 8, np.uint8)
        tags = {
            256: 16,
            257: 1,
            258: bits,
            259: 1,
            262: 3,
            273: 8 + 2 + 12 * 10 + 4,
            277: 1,
            278: 1,
        }
        tags |= {279: stored.size, 320: tags[273] + stored.size}
        entries = b"".join(
            struct.pack(
                "<HHII", tag, 3 if tag == 320 else 4, 3 * 2**bits if tag == 320 else 1, value
            )
            for tag, value in tags.items()
        )
        data = stored.tobytes() + colors.astype("<u2").tobytes()
        head = b"II*\0\x08\0\0\0" + struct.pack("<H", 10)
        (tmp_path / "a.tif").write_bytes(head + entries + bytes(4) + data)
    else:
        tifffile.imwrite(tmp_path / "a.tif", pixels, **options)
    assert read_photo(tmp_path / "a.tif")[0, :2].tolist() == [[255, 0, 1], [10, 200, 0]]


def test_profile_of_a_tiff_that_is_none_does_not_cost_the_photograph(tmp_path):
    tags = [(34675, "s", 0, "no profile", True), (700, "I", 1, 7, True), (33723, "d", 1, 0.5, True)]
    photo = make_photo(2)
    tifffile.imwrite(tmp_path / "a.tif", photo, photometric="rgb", extratags=tags)
    assert np.array_equal(read_photo(tmp_path / "a.tif"), photo)


def test_raw_file_of_a_camera_is_refused_and_its_thumbnail_not_coloured(tmp_path):
    thumbnail, pattern = make_photo(1), [(33421, "H", 2, (2, 2), True)]
    with tifffile.TiffWriter(tmp_path / "a.nef") as file:
        file.write(thumbnail, photometric="rgb", subfiletype=1, subifds=1)
        file.write(np.zeros((99, 99), np.uint16), photometric="cfa", extratags=pattern)
    version = [(50706, "B", 4, b"\1\4\0\0", True)]
    tifffile.imwrite(tmp_path / "a.dng", thumbnail, photometric="rgb", extratags=version)
    (tmp_path / "a.cr3").write_bytes(b"\0\0\0\x18ftypcrx " + bytes(99))
    for name in ("a.nef", "a.dng", "a.cr3"):
        refuse(tmp_path / name, "raw file")


def test_pages_of_a_tiff_are_counted_without_thumbnails_and_read_one_by_one(tmp_path):
    pages = [make_photo(seed) for seed in range(3)]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page in pages:
            file.write(page, photometric="rgb", metadata=None)
        file.write(pages[0][::4, ::4], photometric="rgb", subfiletype=1, metadata=None)
    assert photos.count_pixels(tmp_path / "a.tif") == [48 * 64] * 3
    for number, page in enumerate(pages):
        assert np.array_equal(load_photo(tmp_path / "a.tif", number).rgb, page)
    with pytest.raises(PhotoError) as error:
        load_photo(tmp_path / "a.tif", 3)
    assert_one_sentence(error, "a.tif", "3 pages")
    assert photos.count_pixels(save(pages[0], tmp_path / "a.png")) == [48 * 64]


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
def test_pixels_are_counted_from_the_header(tmp_path, suffix):
    path = save(make_noise(1, 120, 90), tmp_path / f"a.{suffix}")
    if suffix in ("png", "jpg"):
        path.write_bytes(path.read_bytes()[:4000])
    assert photos.count_pixels(path) == [120 * 90]
    with pytest.raises(PhotoError) as error:
        photos.count_pixels(tmp_path / "none.jpg")
    assert_one_sentence(error, "no such file")


def test_floating_point_tiff_with_nan_is_refused_by_name(tmp_path):
    save(np.array([[0, np.nan]], np.float32), tmp_path / "scan.tif")
    with pytest.raises(PhotoError) as error:
        read_photo(tmp_path / "scan.tif")
    assert_one_sentence(error, "scan.tif")


# ---------------------------------------------------------------- several frames, open files


def test_first_frame_of_an_animation_is_read(tmp_path):
    red, blue = (Image.new("RGB", (8, 6), color) for color in ("red", "blue"))
    red.save(tmp_path / "a.gif", save_all=True, append_images=[blue])
    assert only_value(tmp_path / "a.gif") == [255, 0, 0]


def test_first_picture_of_a_multi_picture_jpeg_is_read(tmp_path):
    red, blue = (Image.new("RGB", (16, 16), color) for color in ("red", "blue"))
    red.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[blue])
    assert np.abs(np.subtract(only_value(tmp_path / "a.jpg"), [255, 0, 0])).max() <= 2


@pytest.mark.parametrize(
    "suffix, kind", [("png", "JPEG"), ("webp", None), ("bmp", None), ("ppm", None)]
)
def test_content_and_not_the_extension_decides(tmp_path, suffix, kind):
    photo = make_photo(2)
    path = save(photo, tmp_path / f"a.{suffix}", format=kind, quality=100)
    assert np.abs(read_photo(path).astype(int) - photo).mean() < 4


def test_open_file_is_read(tmp_path):
    photo = make_photo(2)
    with save(photo, tmp_path / "a.png").open("rb") as file:
        assert np.array_equal(read_photo(file), photo)
    assert np.array_equal(read_photo(io.BytesIO((tmp_path / "a.png").read_bytes())), photo)


@pytest.mark.parametrize("suffix", ["heic", "avif"])
def test_photographs_of_telephones_are_read(tmp_path, suffix):
    if suffix == "heic":
        pytest.importorskip("pillow_heif")
    photo = make_photo(3, 64, 96)
    path = save(photo, tmp_path / f"a.{suffix}", quality=95)
    assert np.abs(read_photo(path).astype(int) - photo).mean() < 4


# ---------------------------------------------------------------- colour management


def ramp(channels):
    """All levels of grey, or many colours, uint8 (16, 16, channels)."""
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    return np.dstack([values, values.T, values[::-1]][:channels]) if channels > 1 else values


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_adobe_rgb_becomes_srgb(tmp_path, suffix, deep):
    profile = imagecodecs.cms_profile("adobergb")
    wanted = make_photo(4)
    ours, adobe = (ImageCms.ImageCmsProfile(io.BytesIO(p)) for p in (photos.SRGB, profile))
    stored = np.asarray(ImageCms.profileToProfile(Image.fromarray(wanted), ours, adobe, 1))
    inside = (stored.min(-1) > 0) & (stored.max(-1) < 255)  # some of the colours are clipped
    if deep and suffix == "png":
        (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(stored.astype(np.uint16) * 257))
        head = save(stored, tmp_path / "b.png", icc_profile=profile).read_bytes()
        body = (tmp_path / "a.png").read_bytes()
        (tmp_path / "a.png").write_bytes(body[:33] + head[33 : head.index(b"IDAT") - 4] + body[33:])
    elif deep:
        stored = stored.astype(np.uint16) * 257
        tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", iccprofile=profile)
    else:
        save(stored, tmp_path / f"a.{suffix}", icc_profile=profile)
    photo = load_photo(tmp_path / f"a.{suffix}")
    assert np.abs(photo.rgb.astype(int) - wanted)[inside].mean() < 1
    assert np.abs(stored.astype(int) // (257 if deep else 1) - wanted)[inside].mean() > 3
    assert (photo.deep is not None) == deep


@pytest.mark.parametrize("gamma", [1.0, 1.8])
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_grey_of_a_profile_becomes_srgb(tmp_path, suffix, gamma):
    profile = imagecodecs.cms_profile("gray", gamma=gamma, whitepoint=[0.3457, 0.3585, 1.0])
    path = save(ramp(1), tmp_path / f"a.{suffix}", icc_profile=profile)
    light = (ramp(1) / 255) ** gamma
    wanted = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055) * 255
    rgb = read_photo(path)
    assert np.abs(rgb - wanted[..., None]).mean() < 2 and np.ptp(rgb, axis=-1).max() <= 1


def test_cmyk_of_a_profile_is_not_read_as_plain_ink(tmp_path):
    link = Image.new("CMYK", (16, 16), (0, 200, 200, 0))
    link.save(tmp_path / "a.jpg", icc_profile=b"no profile" * 20)  # broken: ignored
    assert only_value(tmp_path / "a.jpg")[0] > 250


def test_pixels_of_an_srgb_or_broken_profile_stay_as_they_are(tmp_path):
    for profile in (photos.SRGB, b"no profile" * 20, photos.SRGB[:300]):
        path = save(make_noise(4), tmp_path / "a.png", icc_profile=profile)
        assert np.array_equal(read_photo(path), make_noise(4))


def test_result_has_an_srgb_profile_and_no_older_one(tmp_path):
    path = save(make_photo(4), tmp_path / "a.jpg", icc_profile=imagecodecs.cms_profile("adobergb"))
    photo = load_photo(path)
    for suffix in ("png", "jpg", "tif", "webp", "avif"):
        save_photo(photo.rgb, tmp_path / f"out.{suffix}", photo.metadata)
        with Image.open(tmp_path / f"out.{suffix}") as image:
            assert image.info["icc_profile"] == photos.SRGB


# ---------------------------------------------------------------- files that cannot be used


def refuse(path, *parts, **options):
    with pytest.raises(PhotoError) as error:
        read_photo(path, **options)
    assert_one_sentence(error, path.name, *parts)


def test_refused_file_is_named_with_its_folder_also_where_a_path_object_was_given(tmp_path):
    (tmp_path / "n01").mkdir()
    (tmp_path / "n01" / "a.jpg").write_text("text")
    for path in (tmp_path / "n01" / "a.jpg", str(tmp_path / "n01" / "a.jpg")):
        with pytest.raises(PhotoError) as error:
            read_photo(path)
        assert_one_sentence(error, path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "bmp", "gif"])
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_truncated_file_is_refused(tmp_path, suffix, kept):
    path = save(make_noise(3), tmp_path / f"half.{suffix}")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    refuse(path)


def test_damaged_file_is_refused(tmp_path):
    path = save(make_noise(3), tmp_path / "damaged.png")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)
    path.write_bytes(data)
    refuse(path, "damaged")


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_without_its_last_two_bytes_is_whole(tmp_path, progressive):
    path = save(make_photo(3), tmp_path / "a.jpg", progressive=progressive)
    whole, data = read_photo(path), path.read_bytes()
    for missing in (1, 2):
        path.write_bytes(data[:-missing])
        assert np.array_equal(read_photo(path), whole)
        assert read_photo(path, short_side=12).shape == (12, 16, 3)
    for missing in (3, 5, 40):
        path.write_bytes(data[:-missing])
        refuse(path, "cut short")


@pytest.mark.parametrize(
    "tag, kind, data",
    [
        (0x0112, 1, b"\6"),
        (0x011A, 2, b"300\0"),
        (0x0132, 5, bytes(8)),
        (0x0100, 11, bytes(4)),
        (0x8298, 2, b"\xa9 M\xfcll\0"),
        (0x02BC, 7, b"<x/>"),
        (0x8769, 4, b"\xf0\xff\xff\xff"),
    ],
)
def test_tag_of_a_wrong_type_never_costs_the_photograph(tmp_path, tag, kind, data):
    size = {1: 1, 2: 1, 4: 4, 5: 8, 7: 1, 11: 4}[kind]
    make, place = struct.pack("<HHI4s", 0x010F, 2, 4, b"abc\0"), 8 + 2 + 24 + 4
    value = data.ljust(4, b"\0") if len(data) <= 4 else struct.pack("<I", place)
    entry = struct.pack("<HHI4s", tag, kind, len(data) // size, value)
    block = b"Exif\0\0II*\0\x08\0\0\0\2\0" + b"".join(sorted([make, entry])) + bytes(4) + data
    path = save(make_photo(1), tmp_path / "a.jpg", exif=block)
    photo = load_photo(path)
    assert photo.rgb.size == make_photo(1).size
    for suffix in ("jpg", "png", "tif"):
        save_photo(photo.rgb, tmp_path / f"out.{suffix}", photo.metadata)
        with Image.open(tmp_path / f"out.{suffix}") as image:
            assert image.getexif()[0x010F] == "abc"


@pytest.mark.parametrize(
    "content",
    [b"", b"Dear diary, today I saw a koala.\n" * 20, b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"],
)
def test_file_that_is_no_photograph_is_refused(tmp_path, content):
    (tmp_path / "diary.jpg").write_bytes(content)
    refuse(tmp_path / "diary.jpg")


def test_missing_file_and_folder_are_refused(tmp_path):
    refuse(tmp_path / "nowhere.jpg", "no such file")
    refuse(tmp_path, "folder")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read every file"
)
def test_file_without_permission_is_refused(tmp_path):
    path = save(make_photo(), tmp_path / "secret.png")
    path.chmod(0)
    refuse(path, "permission")


def test_too_many_pixels_are_refused_before_decoding(tmp_path):
    path = save(make_photo(0, 48, 64), tmp_path / "large.png")
    refuse(path, "64 x 48", "3,000", max_pixels=3000)
    assert read_photo(path, max_pixels=48 * 64).shape == (48, 64, 3)


def test_refusal_never_names_a_limit_that_the_file_does_not_exceed(tmp_path):
    header = struct.pack(
        ">IIBBBBB", 14_000, 13_500, 8, 2, 0, 0, 0
    )  # 189 megapixels, fewer than are read
    chunk = b"IHDR" + header
    (tmp_path / "wide.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + struct.pack(">I", 9)
        + b"IDAT"
        + b"123"
    )
    with pytest.raises(PhotoError) as error:
        read_photo(tmp_path / "wide.png")
    assert "more than 200,000,000" not in str(error.value)


# ---------------------------------------------------------------- writing


def test_saved_png_is_read_back_exactly(tmp_path):
    photo = make_noise(4)
    save_photo(photo, tmp_path / "new" / "folder" / "A.PNG")
    assert np.array_equal(read_photo(tmp_path / "new" / "folder" / "A.PNG"), photo)


def test_saved_jpeg_is_close(tmp_path):
    photo = make_photo(4)
    save_photo(photo, tmp_path / "a.jpg")
    assert np.abs(read_photo(tmp_path / "a.jpg").astype(int) - photo).mean() < 1.5
    assert Image.open(tmp_path / "a.jpg").format == "JPEG"


@pytest.mark.parametrize("name", ["a.xyz", "a", "a.txt", "a.png.part"])
def test_unknown_extension_is_refused_and_leaves_nothing(tmp_path, name):
    with pytest.raises(PhotoError) as error:
        save_photo(make_photo(), tmp_path / name)
    assert_one_sentence(error, tmp_path / name)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)],
)
def test_what_is_no_photograph_is_not_saved(tmp_path, array):
    with pytest.raises(PhotoError):
        save_photo(array, tmp_path / "a.png")
    assert files_in(tmp_path) == []


def test_full_disk_leaves_the_old_file_and_no_half_one(tmp_path):
    save_photo(make_photo(1), tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    with full_disk(bytes_left=5000), pytest.raises(PhotoError) as error:
        save_photo(make_noise(1, 200, 200), tmp_path / "a.png")
    assert_one_sentence(error, tmp_path / "a.png")
    assert files_in(tmp_path) == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == before


def test_folder_that_is_a_file_is_one_error(tmp_path):
    (tmp_path / "output").write_text("occupied")
    with pytest.raises(PhotoError) as error:
        save_photo(make_photo(), tmp_path / "output" / "a.png")
    assert_one_sentence(error, "a.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
def test_metadata_is_kept_and_the_rotation_taken_out(tmp_path, suffix):
    save(
        make_photo(5, 24, 40),
        tmp_path / "in.jpg",
        quality=95,
        dpi=(600, 600),
        exif=with_orientation(6, x013B="Dorothea Lange", x010E="a barn"),
    )
    photo, metadata = read_photo_and_metadata(tmp_path / "in.jpg")
    save_photo(photo, tmp_path / f"out.{suffix}", metadata)
    with Image.open(tmp_path / f"out.{suffix}") as image:
        exif = image.getexif()
        assert exif[0x013B] == "Dorothea Lange" and exif[0x010E] == "a barn"
        assert exif.get(0x0112, 1) == 1
        assert suffix == "webp" or np.allclose(image.info["dpi"], 600, atol=0.1)
    assert read_photo(tmp_path / f"out.{suffix}").shape == photo.shape == (40, 24, 3)


def all_metadata():
    exif = Image.Exif()
    exif[0x013B] = "Dorothea Lange"
    exif[0x8769] = {0x9003: "1938:01:01 00:00:00", 0x829A: 0.01}
    exif[0x8825] = {1: "N", 2: (51.0, 30.0, 0.0)}
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf'
        b'-syntax-ns#"><rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"'
        b' xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6" dc:format="a barn">'
        b"</rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    iptc = b"\x1c\2\x78\0\6a barn"
    return {"exif": exif.tobytes(), "xmp": xmp, "iptc": iptc, "dpi": (600.0, 600.0)}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "webp"])
def test_everything_about_a_photograph_comes_back(tmp_path, suffix, dtype):
    photo, alpha = make_photo(5), make_photo(6)[..., 0] // 2 + 9
    deep = photo.astype(dtype) * (257 if dtype == np.uint16 else 1)
    deep[0, 0] -= np.minimum(deep[0, 0], 1)
    wanted = all_metadata() | {"colored_by": "koala-plus <1>"}
    for mask in (None, alpha):
        save_photo(deep, tmp_path / f"a.{suffix}", wanted, mask)
        read = load_photo(tmp_path / f"a.{suffix}")
        exif = Image.Exif()
        exif.load(read.metadata["exif"])
        assert exif[0x013B] == "Dorothea Lange"
        assert exif.get_ifd(0x8769)[0x9003] == "1938:01:01 00:00:00"
        assert exif.get_ifd(0x8825)[2] == (51.0, 30.0, 0.0)
        found = read.metadata["xmp"].decode()
        xml.etree.ElementTree.fromstring(found)
        assert "digitalsourcetype/compositeWithTrainedAlgorithmicMedia<" in found
        assert "koala-plus &lt;1&gt;" in found and "a barn" in found and "Orientation" not in found
        assert suffix == "webp" or np.allclose(read.metadata["dpi"], 600, atol=0.1)
        assert suffix in ("png", "webp") or read.metadata["iptc"] == wanted["iptc"]
        if mask is not None and suffix == "jpg":
            on_white = photo * (alpha / 255)[..., None] + 255 - alpha[..., None]
            assert read.alpha is None and np.abs(read.rgb - on_white).mean() < 2
        elif suffix in ("png", "tif"):
            assert np.array_equal(read.deep if dtype == np.uint16 else read.rgb, deep)
            assert np.array_equal(read.alpha, mask) if mask is not None else read.alpha is None
        else:
            assert np.abs(read.rgb.astype(int) - photo).mean() < 3
            assert mask is None or np.abs(read.alpha.astype(int) - mask).max() <= 1


def test_result_is_marked_once_however_often_it_is_coloured(tmp_path):
    metadata = {}
    for model in ("koala", "koala-plus"):
        save_photo(make_photo(), tmp_path / "a.png", metadata | {"colored_by": model})
        metadata = load_photo(tmp_path / "a.png").metadata
    assert metadata["xmp"].count(b"<Iptc4xmpExt:DigitalSourceType>") == 1
    assert b">koala-plus<" in metadata["xmp"] and b">koala<" not in metadata["xmp"]


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_metadata_too_long_for_a_format_does_not_cost_the_result(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x8769] = {0x927C: bytes(70_000)}
    long = {"exif": exif.tobytes(), "xmp": b"<x/>" * 20_000, "iptc": bytes(70_000)}
    save_photo(make_photo(), tmp_path / f"a.{suffix}", long)
    assert read_photo(tmp_path / f"a.{suffix}").shape == make_photo().shape


@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha", "unspecified"])
def test_alpha_of_a_tiff_is_what_its_tag_says(tmp_path, kind):
    photo, alpha = make_photo(5), np.full((48, 64), 128, np.uint8)
    alpha[:9] = 0
    stored = photo * (alpha / 255)[..., None] if kind == "assocalpha" else photo
    pixels = np.dstack([np.rint(stored).astype(np.uint8), alpha])
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=[kind])
    read = load_photo(tmp_path / "a.tif")
    assert np.abs(read.rgb[9:].astype(int) - photo[9:]).max() <= 1
    if kind == "unspecified":
        assert read.alpha is None
    else:
        assert np.array_equal(read.alpha, alpha) and (read.rgb[:9] == 255).all()


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_metadata_of_a_16_bit_tiff_does_not_spoil_the_result(tmp_path, suffix):
    save(make_noise(6)[..., 0].astype(np.uint16) * 257, tmp_path / "in.tif", compression="tiff_lzw")
    photo, metadata = read_photo_and_metadata(tmp_path / "in.tif")
    colored = make_photo(6)
    save_photo(colored, tmp_path / f"out.{suffix}", metadata)
    assert np.abs(read_photo(tmp_path / f"out.{suffix}").astype(int) - colored).mean() < 1.5


# ---------------------------------------------------------------- finding


@pytest.fixture
def imagenet(tmp_path):
    """Two synset folders, as ImageNet has them, with what else lies about in such folders."""
    names = ["n01/a.JPEG", "n01/b.jpeg", "n02/c.jpg", "n02/d.PNG", "n02/deep/er/e.TIF", "f.webp"]
    for seed, name in enumerate(names):
        save(make_photo(seed), tmp_path / "photos" / name)
    for name in ("list.csv", "n01/.hidden.jpg", "n02/notes.md"):
        (tmp_path / "photos" / name).write_text("nothing to see")
    (tmp_path / "photos" / "folder.jpg").mkdir()
    return tmp_path / "photos", sorted(tmp_path / "photos" / name for name in names)


def test_folder_is_searched_with_its_subfolders(imagenet):
    folder, expected = imagenet
    assert find_photos(folder) == expected
    assert find_photos(str(folder)) == expected


def test_glob_finds_photographs_only(imagenet):
    folder, expected = imagenet
    assert find_photos(f"{folder}/n01/*") == expected[1:3]
    assert find_photos(f"{folder}/**/*.TIF") == [folder / "n02/deep/er/e.TIF"]


def test_single_photograph_is_a_source(imagenet):
    folder, _ = imagenet
    assert find_photos(folder / "f.webp") == [folder / "f.webp"]


def test_folder_with_brackets_in_its_name_is_no_glob(tmp_path):
    path = save(make_photo(), tmp_path / "summer [1938]" / "a.png")
    assert find_photos(tmp_path / "summer [1938]") == [path]


def test_missing_and_empty_sources_are_one_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no photographs")
    for source in (tmp_path / "nowhere", tmp_path / "empty", f"{tmp_path}/empty/*.jpg"):
        with pytest.raises(PhotoError) as error:
            find_photos(source)
        assert_one_sentence(error, source)


def test_nothing_is_no_source():
    with pytest.raises(PhotoError) as error:
        find_photos("")
    assert_one_sentence(error)


def test_bundled_collections_are_there_and_colored_as_named():
    color, historical = find_photos("bundled"), find_photos("bundled-historical")
    assert [path.stem for path in color] == [
        "astronaut",
        "chelsea",
        "china",
        "coffee",
        "flower",
        "grace_hopper",
        "motorcycle",
        "rocket",
    ]
    assert len(historical) >= 5
    assert all(photos.read_for_training(path).ndim == 3 for path in color)
    assert all(min(read_photo(path).shape[:2]) >= 400 for path in historical)


# ---------------------------------------------------------------- collections that are downloaded


@pytest.mark.parametrize("name, count", [("test", 150), ("historical", 47), ("plates", 24)])
def test_published_collection_is_read_in_place(published, name, count):
    paths = find_photos(name)
    assert len(paths) == len(set(paths)) == count
    assert all(path.is_relative_to(published) for path in paths)
    assert read_photo(paths[0]).ndim == 3


@pytest.mark.parametrize("name", ["test", "historical", "plates"])
def test_collection_without_a_network_says_what_to_do(monkeypatch, dead_url, name):
    rows = [{**row, "url": f"{dead_url}/{row['path']}"} for row in downloads.registry(name)]
    monkeypatch.setattr(downloads, "registry", lambda _: rows)
    with pytest.raises(PhotoError) as error:
        find_photos(name)
    assert_one_sentence(error, name, "KOALA_DATA_DIR")


def published_row(site, path, body, digest=None):
    return {
        "path": path,
        "url": site.put("/" + path, body),
        "sha256": digest or hashlib.sha256(body).hexdigest(),
    }


def test_collection_is_downloaded_once_and_checked(monkeypatch, site, empty_cache, tmp_path):
    body = save(make_photo(), tmp_path / "a.png").read_bytes()
    rows = [published_row(site, "nips2017/a.png", body)]
    monkeypatch.setattr(downloads, "registry", lambda _: rows)
    assert (
        find_photos("test") == find_photos("test") == [empty_cache / "test" / "nips2017" / "a.png"]
    )
    assert site.requests == ["/nips2017/a.png"]


def test_collection_with_other_bytes_is_refused(monkeypatch, site, empty_cache):
    rows = [published_row(site, "nips2017/a.png", b"something else", digest="0" * 64)]
    monkeypatch.setattr(downloads, "registry", lambda _: rows)
    with pytest.raises(PhotoError) as error:
        find_photos("test")
    assert_one_sentence(error, "test")
    assert files_in(empty_cache) == []


def test_imagenette_is_unpacked_once(monkeypatch, site, empty_cache, tmp_path):
    save(make_photo(), tmp_path / "imagenette2-320" / "train" / "n01440764" / "a.JPEG")
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as archive:
        archive.add(tmp_path / "imagenette2-320", "imagenette2-320")
    body = (tmp_path / "a.tgz").read_bytes()
    monkeypatch.setattr(downloads, "IMAGENETTE_PHOTOS", 1)
    monkeypatch.setattr(downloads, "IMAGENETTE_URL", site.put("/a.tgz", body))
    monkeypatch.setattr(downloads, "IMAGENETTE_SHA256", hashlib.sha256(body).hexdigest())
    expected = [empty_cache / "imagenette2-320" / "train" / "n01440764" / "a.JPEG"]
    assert find_photos("imagenette") == find_photos("imagenette") == expected
    assert len(site.requests) == 1


def test_imagenette_without_a_network_says_what_to_do(monkeypatch, dead_url, empty_cache):
    monkeypatch.setattr(downloads, "IMAGENETTE_URL", dead_url + "/a.tgz")
    with pytest.raises(PhotoError) as error:
        find_photos("imagenette")
    assert_one_sentence(error, empty_cache, "bundled")


def test_incomplete_imagenette_is_no_collection(monkeypatch, site, empty_cache, tmp_path):
    monkeypatch.setattr(downloads, "IMAGENETTE_PHOTOS", 2)
    for name in ("a", "b"):
        save(make_photo(), tmp_path / "imagenette2-320" / "train" / "n01" / f"{name}.JPEG")
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as archive:
        archive.add(tmp_path / "imagenette2-320", "imagenette2-320")
    body = (tmp_path / "a.tgz").read_bytes()
    monkeypatch.setattr(downloads, "IMAGENETTE_URL", site.put("/a.tgz", body))
    monkeypatch.setattr(downloads, "IMAGENETTE_SHA256", hashlib.sha256(body).hexdigest())
    (empty_cache / "imagenette2-320" / "train").mkdir(parents=True)
    save(make_photo(), empty_cache / "imagenette2-320" / "train" / "n01" / "a.JPEG")
    assert not downloads.is_at_hand("imagenette")
    assert len(find_photos("imagenette")) == 2 and downloads.is_at_hand("imagenette")


def test_folder_of_a_failed_download_is_no_collection(monkeypatch, dead_url, empty_cache):
    rows = [{"path": "nips2017/a.png", "url": dead_url + "/a.png", "sha256": "0" * 64}]
    monkeypatch.setattr(downloads, "registry", lambda _: rows)
    (empty_cache / "test" / "nips2017").mkdir(parents=True)
    assert downloads.is_at_hand("bundled") and not downloads.is_at_hand("test")
    for _ in range(2):
        with pytest.raises(PhotoError) as error:
            find_photos("test")
        assert_one_sentence(error, "test", "bundled")


def test_registries_hold_what_a_download_needs():
    for name, count in (("test", 150), ("historical", 71)):
        rows = downloads.registry(name)
        assert len({row["path"] for row in rows}) == count
        assert all(len(row["sha256"]) == 64 and row["url"].startswith("https://") for row in rows)
    assert all(0 <= int(row["label"]) < 1000 for row in downloads.registry("test"))


# ---------------------------------------------------------------- lists of urls


def jpeg(seed):
    buffer = io.BytesIO()
    Image.fromarray(make_photo(seed)).save(buffer, "JPEG")
    return buffer.getvalue()


def test_list_of_urls_may_hold_comments_and_blank_lines(site, tmp_path):
    urls = [site.put(f"/{seed}.jpg", jpeg(seed)) for seed in range(3)]
    (tmp_path / "urls.txt").write_text(
        f"# koalas\n\n  {urls[0]}\n{urls[1]}  \n\n#{urls[2]}\n{urls[0]}\n"
    )
    assert downloads.read_urls(tmp_path / "urls.txt") == urls[:2]
    found, skipped = download(tmp_path / "urls.txt", tmp_path / "got")
    assert skipped == {}
    assert sorted(path.read_bytes() for path in found) == sorted([jpeg(0), jpeg(1)])
    assert sorted(site.requests) == ["/0.jpg", "/1.jpg"]


def test_dead_links_are_skipped_and_named_with_the_reason(site, dead_url, tmp_path):
    good = site.put("/good.jpg", jpeg(0))
    reasons = {
        site.url + "/gone.jpg": "404",
        site.put("/broken.jpg", b"sorry", status=500): "500",
        site.put("/page.jpg", b"<html>not found</html>"): "is no photograph",
        site.put("/cut.jpg", jpeg(1)[:200], length=len(jpeg(1))): "cut short",
        site.put("/half.jpg", jpeg(1)[:-200]): "is no photograph",
        dead_url + "/a.jpg": "refused",
        "ftp://127.0.0.1/a.jpg": "http",
        "not an address": "http",
    }
    found, skipped = download([good, *reasons], tmp_path / "downloads over http")
    assert [path.read_bytes() for path in found] == [jpeg(0)]
    assert skipped.keys() == reasons.keys()
    for url, reason in reasons.items():
        assert reason in skipped[url]
        assert ".tmp" not in skipped[url]
    kept = [name for name in files_in(tmp_path / "downloads over http") if "missing" not in name]
    assert kept == [found[0].name]


def test_second_download_fetches_only_what_is_missing(site, tmp_path):
    urls = [site.put(f"/{seed}.jpg", jpeg(seed)) for seed in range(2)] + [site.url + "/late.jpg"]
    first, skipped = download(urls, tmp_path)
    assert len(first) == 2 and list(skipped) == urls[2:]
    site.put("/late.jpg", jpeg(2))
    site.requests.clear()
    second, skipped = download(urls, tmp_path)
    assert len(second) == 3 and skipped == {}
    assert site.requests == ["/late.jpg"]


def test_photographs_of_one_name_do_not_overwrite_each_other(site, tmp_path):
    urls = [site.put(f"/{folder}/image.jpg", jpeg(seed)) for seed, folder in enumerate("ab")]
    found, _ = download(urls, tmp_path)
    assert [path.read_bytes() for path in found] == [jpeg(0), jpeg(1)]


def test_text_file_of_urls_is_a_source(site, tmp_path, empty_cache):
    (tmp_path / "koalas.txt").write_text(
        site.put("/a.jpg?size=large", jpeg(0)) + "\n" + site.url + "/gone.jpg\n"
    )
    site.pages["/a.jpg?size=large"] = 200, jpeg(0), None
    found = find_photos(tmp_path / "koalas.txt")
    assert len(found) == 2 and all(path.is_relative_to(empty_cache) for path in found)
    [good], [dead] = ([p for p in found if p.exists() == there] for there in (True, False))
    assert good.read_bytes() == jpeg(0)
    with pytest.raises(PhotoError) as error:  # the dead link is named as left out
        read_photo(dead)
    assert_one_sentence(error, site.url + "/gone.jpg", "answered 404")
    site.put("/gone.jpg", jpeg(1))
    assert find_photos(tmp_path / "koalas.txt") == found  # and the listing is the same
    assert read_photo(dead).shape == read_photo(good).shape


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_list_of_urls_is_read_in_the_encodings_of_editors(tmp_path, encoding):
    lines = ["http://a.example/1.jpg", "http://a.example/Zürich.jpg"]
    (tmp_path / "a.txt").write_text("\r\n".join(lines), encoding=encoding)
    assert downloads.read_urls(tmp_path / "a.txt") == lines


@pytest.mark.parametrize("content", [b"", b"Dear diary", b"\xff\x00\xd8bytes of something"])
def test_text_without_a_url_is_said_to_be_that(tmp_path, content):
    (tmp_path / "notes.txt").write_bytes(content)
    with pytest.raises(PhotoError) as error:
        find_photos(tmp_path / "notes.txt")
    assert_one_sentence(error, tmp_path / "notes.txt")


def test_text_file_of_dead_links_is_one_sentence(site, tmp_path):
    (tmp_path / "koalas.txt").write_text(site.url + "/gone.jpg\n")
    with pytest.raises(PhotoError) as error:
        find_photos(tmp_path / "koalas.txt")
    assert_one_sentence(error, tmp_path / "koalas.txt")


# ---------------------------------------------------------------- fit for training, sizes


def test_grey_and_toned_scans_are_nearly_grey_and_photographs_are_not():
    grey = np.repeat(make_photo(1)[..., :1], 3, axis=-1)
    assert photos.is_nearly_grey(grey)
    assert photos.is_nearly_grey(np.clip(grey.astype(int) + [1, 0, -1], 0, 255).astype(np.uint8))
    assert not photos.is_nearly_grey(make_photo(1))
    assert not photos.is_nearly_grey(make_photo(1, 40, 3000))


def test_photograph_unfit_for_training_is_refused_with_the_reason(tmp_path):
    small, grey = (
        save(make_photo(1, 31, 200), tmp_path / "small.png"),
        np.full((64, 64, 3), 90, np.uint8),
    )
    cases = {small: "too small", save(grey, tmp_path / "fog.png"): "nearly grey"}
    for path, reason in cases.items():
        with pytest.raises(PhotoError) as error:
            photos.read_for_training(path)
        assert reason in str(error.value) and path.name in str(error.value)
    assert photos.read_for_training(save(make_photo(1, 32, 200), tmp_path / "fits.png")).shape == (
        32,
        200,
        3,
    )


@pytest.mark.parametrize(
    "shape, expected",
    [((100, 200), (50, 100)), ((300, 90), (167, 50)), ((50, 70), (50, 70)), ((20, 400), (20, 400))],
)
def test_short_side_is_shrunk_and_never_enlarged(shape, expected):
    assert photos.resize_short_side(make_photo(0, *shape), 50).shape[:2] == expected


def test_shrinking_keeps_the_mean_color():
    photo = make_photo(0, 200, 300)
    assert np.abs(photos.resize_short_side(photo, 40).mean((0, 1)) - photo.mean((0, 1))).max() < 2


@pytest.mark.parametrize("height, width", [(4, 10), (10, 4), (5, 10), (7, 7)])
def test_square_is_cut_from_the_middle(height, width):
    photo = make_noise(0, height, width)
    square = photos.crop_square(photo)
    side = min(height, width)
    assert square.shape == (side, side, 3)
    top, left = (height - side) // 2, (width - side) // 2
    assert np.array_equal(square, photo[top : top + side, left : left + side])


def test_reasons_are_counted():
    reasons = [
        "/p/a.jpg: nearly grey, no colour to learn from.",
        "/p/b.jpg: nearly grey, no colour to learn from.",
        "/p/c.jpg: damaged or cut short (image file is truncated).",
    ]
    assert photos.summarize(reasons) == "2 nearly grey, 1 damaged or cut short"
