"""Decoding: every image mode becomes RGB with the right values; damaged and enormous files are refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from thesis_rec.base.errors import ItemError
from thesis_rec.images.decoding import decode_image, resize_image, to_rgb


def png(image, suffix="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, suffix, **options)
    return buffer.getvalue()


def decoded(image, suffix="PNG", **options):
    return np.asarray(decode_image(png(image, suffix, **options)))


class TestModes:
    def test_grey(self):
        assert decoded(Image.new("L", (3, 2), 77)).tolist() == np.full((2, 3, 3), 77).tolist()

    def test_two_values(self):
        assert decoded(Image.new("1", (2, 2), 1)).min() == 255

    def test_transparent_pixels_lie_on_white(self):
        image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
        image.putpixel((1, 0), (0, 0, 0, 0))
        assert decoded(image).tolist() == [[[255, 0, 0], [255, 255, 255]]]

    def test_grey_with_transparency(self):
        assert decoded(Image.new("LA", (1, 1), (0, 0))).tolist() == [[[255, 255, 255]]]

    def test_palette_with_and_without_transparency(self):
        image = Image.new("P", (2, 1))
        image.putpalette([10, 20, 30, 40, 50, 60])
        image.putpixel((1, 0), 1)
        assert decoded(image).tolist() == [[[10, 20, 30], [40, 50, 60]]]
        assert decoded(image, transparency=1).tolist() == [[[10, 20, 30], [255, 255, 255]]]

    def test_sixteen_bits_are_scaled_not_clipped(self):
        image = Image.fromarray(np.array([[0, 257, 32896, 65535]], dtype=np.uint16))
        assert decoded(image)[0, :, 0].tolist() == [0, 1, 128, 255]

    def test_floats_of_a_tiff(self):
        image = Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32))
        assert decoded(image, "TIFF")[0, :, 1].tolist() == [0, 128, 255]

    def test_cmyk(self):
        rgb = decoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100)
        assert np.abs(rgb.astype(int) - [255, 0, 0]).max() < 6

    def test_first_frame_of_an_animation(self):
        frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
        assert decoded(frames[0], "GIF", save_all=True, append_images=frames[1:])[0, 0].tolist() == [255, 0, 0]

    def test_exif_orientation(self):
        image = Image.new("RGB", (4, 2))
        exif = image.getexif()
        exif[0x0112] = 6
        assert decode_image(png(image, "JPEG", exif=exif)).size == (2, 4)

    @pytest.mark.parametrize(
        ("orientation", "turned"),
        enumerate(
            [
                lambda a: a,  # 0 means nothing
                lambda a: a,
                lambda a: a[:, ::-1],
                lambda a: a[::-1, ::-1],
                lambda a: a[::-1],
                lambda a: a.T,
                lambda a: np.rot90(a, -1),
                lambda a: np.rot90(a, 2).T,
                np.rot90,
                lambda a: a,  # 9 means nothing either
            ]
        ),
    )
    def test_every_orientation(self, orientation, turned):
        stored = np.arange(0, 240, 40, dtype=np.uint8).reshape(2, 3)
        exif = Image.Exif()
        exif[0x0112] = orientation
        np.testing.assert_array_equal(decoded(Image.fromarray(stored), exif=exif)[..., 0], turned(stored))


class TestRefusals:
    def bomb(self, side):
        """A PNG of a few bytes whose header claims side x side pixels."""

        def chunk(name, data):
            return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
        return b"\x89PNG\r\n\x1a\n" + content

    @pytest.mark.parametrize("side", [9_000, 12_000, 60_000])
    def test_decompression_bomb(self, side, recwarn):
        with pytest.raises(ItemError, match=r"pixels|too large") as caught:
            decode_image(self.bomb(side), "bomb.png")
        assert caught.value.item == "bomb.png"
        assert "memory" in caught.value.hint or "bomb" in caught.value.error
        assert not recwarn.list

    def test_own_limit(self, monkeypatch):
        monkeypatch.setattr("thesis_rec.images.decoding.MAX_PIXELS", 3)
        with pytest.raises(ItemError, match="more than the 3 allowed"):
            decode_image(png(Image.new("L", (2, 2))))

    def test_truncated(self, tmp_path):
        noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3)).astype(np.uint8)
        path = tmp_path / "t.png"
        path.write_bytes(png(Image.fromarray(noise))[:900])
        with pytest.raises(ItemError, match=r"can't be read") as caught:
            decode_image(path)
        assert "t.png" in caught.value.item

    def test_no_image(self):
        with pytest.raises(ItemError, match="not an image"):
            decode_image(b"<html>")

    @given(st.binary(max_size=60), st.integers(0, 200))
    def test_damaged_bytes_never_raise_anything_else(self, noise, place):
        data = png(Image.new("RGB", (9, 9), "red"))
        try:
            image = decode_image(data[:place] + noise + data[place + len(noise) :])
        except ItemError:
            return
        assert image.mode == "RGB"


class TestArrays:
    @given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(3))))
    def test_rgb_bytes_stay(self, array):
        assert np.array_equal(to_rgb(array), array)

    @pytest.mark.parametrize(
        ("array", "value"),
        [
            (np.full((2, 2), True), 255),
            (np.full((2, 2, 1), 7, np.uint8), 7),
            (np.full((2, 2), 65535, np.uint16), 255),
            (np.full((2, 2), 200, np.int64), 200),
            (np.full((2, 2), 0.2), 51),
            (np.full((2, 2), 51.4, np.float32), 51),
            (np.full((2, 2, 4), 255, np.uint8), 255),
        ],
    )
    def test_other_kinds(self, array, value):
        rgb = to_rgb(array)
        assert rgb.shape == (2, 2, 3)
        assert rgb.dtype == np.uint8
        assert (rgb == value).all()

    @pytest.mark.parametrize("shape", [(2,), (2, 2, 2), (0, 2), (1, 2, 2, 3)])
    def test_other_shapes_are_refused(self, shape):
        with pytest.raises(ValueError, match="shape"):
            to_rgb(np.zeros(shape, np.uint8))


def test_a_large_jpeg_is_decoded_as_small_as_its_square_allows():
    """Photographs take most of an answer's time; what becomes of them is hardly another."""
    coarse = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8)
    stored = np.asarray(Image.fromarray(coarse).resize((900, 1200), Image.Resampling.BICUBIC))
    exif = Image.Exif()
    exif[0x0112] = 6
    jpeg, plain = png(Image.fromarray(stored), "JPEG", quality=95, exif=exif), png(Image.fromarray(stored))
    whole = decode_image(jpeg)
    assert whole.size == (1200, 900)
    sizes = {size: decode_image(jpeg, size=size).size for size in (32, 64, 128, 224, 512)}
    assert sizes == {32: (150, 113), 64: (300, 225)} | {128: (600, 450)} | dict.fromkeys((224, 512), (1200, 900))
    assert decode_image(plain, size=32).size == (900, 1200)
    for size in (32, 64, 128):
        pair = [resize_image(image, size).astype(float) for image in (whole, decode_image(jpeg, size=size))]
        assert np.sqrt(np.square(pair[0] - pair[1]).mean()) < 0.06 * pair[0].std()


def test_resizing():
    wide = np.full((10, 30, 3), 255, np.uint8)
    out = resize_image(wide, 12)
    assert out.shape == (12, 12, 3)
    assert (out == 255).all()
    assert np.array_equal(resize_image(out, 12), out)
