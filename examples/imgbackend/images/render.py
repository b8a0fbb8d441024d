"""Draws one product image.

It stands for the call of an image model, and does what such a task does: a wait, some work, one file.
"""
import os
from hashlib import md5
from pathlib import Path

from PIL import Image, ImageDraw

SIZE = (320, 240)

PROMPTS = {
    "studio": "on white, soft light from the left",
    "beach": "on a beach at noon, shallow water",
    "kitchen": "on an oak table, morning light",
    "night": "in a city street at night, neon",
}


def colour_of(text):
    """A calm colour that belongs to this text, so that images of one prompt look alike."""
    red, green, blue = md5(text.encode()).digest()[:3]
    return (96 + red // 2, 96 + green // 2, 96 + blue // 2)


def draw(product_index, prompt_key):
    """The picture of one product with one prompt."""
    picture = Image.new("RGB", SIZE, colour_of(prompt_key))
    pen = ImageDraw.Draw(picture)
    pen.ellipse((90, 30, 230, 170), fill=colour_of(f"product {product_index}"), outline="white", width=3)
    pen.text((16, 186), f"Product {product_index}", fill="black")
    pen.text((16, 208), f"{prompt_key}: {PROMPTS.get(prompt_key, prompt_key)}", fill="black")
    return picture


def render_to(path, product_index, prompt_key):
    """Write the picture to `path`, whole or not at all: a killed worker leaves no half image behind its name."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        draw(product_index, prompt_key).save(partial, format="PNG")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
