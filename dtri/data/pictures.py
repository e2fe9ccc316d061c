"""Image files -> uint8 arrays: decoded, turned upright, put on a background, resized.

Resizing uses PIL's bilinear filter, antialiased when shrinking. Arguments `where` name the image in error messages.
"""

import io

import numpy as np
from PIL import Image, ImageOps

from dtri.messages import reading

MAX_PIXELS = 64 * 2**20  # pixels of one image
_OPAQUE = "; make it opaque, or see option 'background' of dtri.data.image_folder"


def decode(content: bytes, shape: tuple[int, int, int], resize: str, where: str) -> np.ndarray:
    """Bytes of an image file -> uint8 [C, H, W]; ValueError for an unreadable, too large or odd-sized image.

    Args:
        content: bytes of the file.
        shape:   (C, H, W) of the result.
        resize:  "none", "stretch" or "crop" (dtri.data.image_folder).
        where:   name of the image in messages.
    """
    return fit(open_image(content, shape[0], where), shape, resize, where)


def fit(image: Image.Image, shape: tuple[int, int, int], resize: str, where: str) -> np.ndarray:
    """A picture with the right number of channels -> uint8 [C, H, W], resized as `resize` says."""
    return pixels(RESIZE[resize](image, (shape[2], shape[1]), where))


def open_image(
    content: bytes, channels: int, where: str, upright: bool = False, background: tuple[int, int, int] | None = None
) -> Image.Image:
    """Bytes of an image file -> grey or RGB picture.

    Args:
        content:    bytes of the file.
        channels:   1 for grey, 3 for RGB.
        where:      name of the image in messages.
        upright:    whether to turn the picture as its EXIF data says.
        background: colour behind transparent pixels, 0..255 each; None makes transparency an error.

    Raises:
        ValueError: the image is unreadable, too large, animated or transparent, or has more than 8 bits of grey.
    """
    with reading(where, "expected an image, found something unreadable"):
        if not content:
            raise EOFError("an empty file")
        with Image.open(io.BytesIO(content)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"expected at most {MAX_PIXELS} pixels, found {image.width}x{image.height} ({where})")
            if image.mode.startswith(("I", "F")):  # a conversion to 8 bits would clip these values, not scale them
                raise ValueError(f"expected 8 bits per channel, found mode {image.mode} ({where})")
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":  # an MPO holds a photograph and its previews
                raise ValueError(f"expected one picture, found {frames} frames ({where})")
            if image.format == "PNG":
                Image.open(io.BytesIO(content)).verify()  # compares the format's checksums, which decoding ignores
            image.load()
            picture = ImageOps.exif_transpose(image) if upright else image
            if _transparent(picture):
                if background is None:
                    raise ValueError(f"expected an opaque picture, found transparent pixels ({where}){_OPAQUE}")
                ground = Image.new("RGBA", picture.size, (*background, 255))
                picture = Image.alpha_composite(ground, picture.convert("RGBA"))
            return picture.convert("L" if channels == 1 else "RGB")


def _transparent(image: Image.Image) -> bool:
    """Whether any pixel is transparent, by an alpha channel or a transparent colour."""
    return image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema()[0] < 255


def pixels(image: Image.Image) -> np.ndarray:
    """uint8 [C, H, W] of a grey or RGB picture."""
    values = np.asarray(image)
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


def _keep(image: Image.Image, size: tuple[int, int], where: str) -> Image.Image:
    if image.size != size:
        found, expected = "{}x{}".format(*image.size), "{}x{}".format(*size)
        raise ValueError(f"expected {expected} pixels (width x height) with resize 'none', found {found} ({where})")
    return image


def _stretch(image: Image.Image, size: tuple[int, int], where: str) -> Image.Image:
    return image.resize(size, Image.Resampling.BILINEAR)


def _crop(image: Image.Image, size: tuple[int, int], where: str) -> Image.Image:
    """Cover `size` and cut out its centre; for squares with the sizes and offsets of torchvision's transforms."""
    (width, height), (to_width, to_height) = image.size, size
    if to_width * height >= to_height * width:  # the width is the tighter side
        covering = (to_width, max(to_height, to_width * height // width))
    else:
        covering = (max(to_width, to_height * width // height), to_height)
    image = image.resize(covering, Image.Resampling.BILINEAR)
    left, top = round((covering[0] - to_width) / 2), round((covering[1] - to_height) / 2)
    return image.crop((left, top, left + to_width, top + to_height))


RESIZE = {"none": _keep, "stretch": _stretch, "crop": _crop}
