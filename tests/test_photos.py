"""Any file, list of urls or collection -> RGB photographs; the awkward files are real ones, made here."""

import hashlib
import io
import os
import struct
import tarfile
import zlib

import numpy as np
import pytest
import tifffile
from helpers import assert_one_sentence, files_in, full_disk, make_noise, make_photo, save
from PIL import Image, ImageCms

from koala_utils import downloads, photos
from koala_utils.downloads import download, find_photos
from koala_utils.photos import PhotoError, read_photo, read_photo_and_metadata, save_photo

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


@pytest.mark.parametrize("top", [1, 255, 65535])
def test_floating_point_tiff_is_scaled_by_its_range(tmp_path, top):
    save(np.array([[0, 0.2, 0.5, 1]], np.float32) * top, tmp_path / "a.tif")
    values = read_photo(tmp_path / "a.tif")[0, :, 0]
    assert np.abs(values - np.array([0, 51, 127.5, 255])).max() <= 0.5


def test_32_bit_integer_tiff_is_read_as_16_bit(tmp_path):
    save(np.array([[0, 25700, 65535, 70000, -5]], np.int32), tmp_path / "a.tif")
    assert read_photo(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 100, 255, 255, 0]


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
    with open(save(photo, tmp_path / "a.png"), "rb") as file:
        assert np.array_equal(read_photo(file), photo)
    assert np.array_equal(read_photo(io.BytesIO((tmp_path / "a.png").read_bytes())), photo)


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
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    save(
        make_photo(5, 24, 40),
        tmp_path / "in.jpg",
        quality=95,
        icc_profile=profile,
        exif=with_orientation(6, x013B="Dorothea Lange", x010E="a barn"),
    )
    photo, metadata = read_photo_and_metadata(tmp_path / "in.jpg")
    save_photo(photo, tmp_path / f"out.{suffix}", metadata)
    with Image.open(tmp_path / f"out.{suffix}") as image:
        exif = image.getexif()
        assert exif[0x013B] == "Dorothea Lange" and exif[0x010E] == "a barn"
        assert exif.get(0x0112, 1) == 1
        assert image.info["icc_profile"] == profile
    assert read_photo(tmp_path / f"out.{suffix}").shape == photo.shape == (40, 24, 3)


def test_profile_of_other_inks_is_dropped(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("CMYK", (16, 16)).save(tmp_path / "a.jpg", icc_profile=profile)
    Image.new("L", (16, 16)).save(tmp_path / "b.jpg", icc_profile=profile)
    for name in ("a.jpg", "b.jpg"):
        assert "icc_profile" not in read_photo_and_metadata(tmp_path / name)[1]


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
    assert files_in(tmp_path / "downloads over http") == [found[0].name]


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
    assert [path.read_bytes() for path in found] == [jpeg(0)]
    assert found[0].is_relative_to(empty_cache)


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
