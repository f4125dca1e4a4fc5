"""Characters of several scripts, drawn with the DejaVu fonts that matplotlib ships."""

from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from thesis_rec.tasks import canvas
from thesis_rec.tasks.base import BaseTask, family, numbered
from thesis_rec.tasks.canvas import Array, Rng

FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
)
ATLAS = 44


def _font_path(font: str) -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf"


@cache
def _characters(font: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(str(_font_path(font))).get_charmap())


@cache
def fonts_of(text: str) -> tuple[str, ...]:
    """Names of the fonts that have all of a text's characters.

    Raises:
        ValueError: None has.
    """
    found = tuple(f for f in FONTS if all(ord(c) in _characters(f) for c in text))
    if not found:
        raise ValueError(f"no font has {text!r}")
    return found


@lru_cache(maxsize=4096)
def stamp(text: str, font: str) -> Array:
    """Draw a text once, as large as fits, centred: (44, 44) float32 in 0..1."""
    from PIL import Image, ImageDraw, ImageFont

    shaped = ImageFont.truetype(
        str(_font_path(font)), 40 if len(text) == 1 else 64 // len(text), layout_engine=ImageFont.Layout.BASIC
    )
    left, top, right, bottom = shaped.getbbox(text)
    picture = Image.new("L", (int(right - left) + 2, int(bottom - top) + 2))
    ImageDraw.Draw(picture).text((1 - left, 1 - top), text, fill=255, font=shaped)
    # Characters keep their relative sizes (a dot stays small) unless they are larger than the stamp.
    shrink = min(1.0, (ATLAS - 4) / max(picture.size))
    if shrink < 1:
        picture = picture.resize(
            (max(1, int(picture.width * shrink)), max(1, int(picture.height * shrink))), Image.Resampling.LANCZOS
        )
    sheet = Image.new("L", (ATLAS, ATLAS))
    sheet.paste(picture, ((ATLAS - picture.width) // 2, (ATLAS - picture.height) // 2))
    return np.asarray(sheet, dtype=np.float32) / 255


def draw_texts(
    texts: list[str],
    rng: Rng,
    fonts: list[str] | None = None,
    scale: tuple[float, float] = (0.75, 1.15),
    turn: float = 0.3,
    shift: float = 0.2,
    shear: float = 0.25,
) -> Array:
    """Draw one text per image, each in a random font, size, place, slant and rotation.

    Returns:
        (n, 32, 32) coverage.
    """
    n = len(texts)
    names = fonts or [options[rng.integers(len(options))] for options in map(fonts_of, texts)]
    stamps = np.stack([stamp(t, f) for t, f in zip(texts, names, strict=True)])
    u, v, size = canvas.frame(n, rng, scale, shift, turn, 1.3)
    u = u + v * canvas.uniform(rng, -shear, shear, n)
    # A stroke narrower than a pixel would alias: shrink happens on a slightly blurred stamp.
    drawn = canvas.sample(canvas.blur(stamps, 0.35), u, v)
    return np.clip(drawn * (1 + 0.25 * (size < 0.8)), 0, 1)


def _character(text: str, n: int, rng: Rng) -> Array:
    return draw_texts([text] * n, rng)


def names(texts: str | list[str]) -> tuple[str, ...]:
    """Class names of characters: their Unicode names, lower case with underscores."""
    import unicodedata

    short = []
    for text in texts:
        name = "_".join(unicodedata.name(c) for c in text).lower().replace(" ", "_").replace("-", "_")
        for word in (
            "latin_",
            "small_letter_",
            "capital_letter_",
            "letter_",
            "braille_pattern_",
            "black_chess_",
            "armenian_",
            "greek_",
            "cyrillic_",
            "hebrew_",
            "arabic_",
            "georgian_",
            "box_drawings_light_",
        ):
            name = name.replace(
                word, "" if word not in ("small_letter_", "capital_letter_") else word.split("_", maxsplit=1)[0] + "_"
            )
        short.append(name)
    return tuple(short)


def _any_of(texts: str, n: int, rng: Rng) -> Array:
    return draw_texts([texts[i] for i in rng.integers(0, len(texts), n)], rng)


def _font_style(font: str, n: int, rng: Rng) -> Array:
    letters = [chr(c) for c in rng.choice([*range(65, 91), *range(97, 123)], n)]
    return draw_texts(letters, rng, [font] * n, (0.95, 1.25), 0.1, 0.1, 0.0)


def _turned(k: int, n: int, rng: Rng) -> Array:
    """Letters without rotational symmetry, turned by k quarter turns."""
    drawn = draw_texts([str(c) for c in rng.choice(list("ABDEFGJKLPQRTVY"), n)], rng, turn=0.2)
    return np.rot90(drawn, k, axes=(1, 2))


def script(name: str, rows: list[tuple[str, str, str, str]]) -> tuple[BaseTask, ...]:
    """Build a script's tasks from (id suffix, style, description, characters) rows."""
    return family(
        name,
        "structured",
        [
            (suffix, style, what, _character, dict(zip(names(texts), texts, strict=True)))
            for suffix, style, what, texts in rows
        ],
    )


_SORTS = {
    "small_vowel": "aeiou", "capital_vowel": "AEIOU", "small_consonant": "bcdfghkmnprtvwz",
    "capital_consonant": "BCDFGHKMNPRTVWZ", "digit": "0123456789", "sign": "!?&@#%$*+",
}  # fmt: skip
_FONTS = {
    "sans": "DejaVuSans", "sans_bold": "DejaVuSans-Bold", "serif": "DejaVuSerif", "serif_bold": "DejaVuSerif-Bold",
    "serif_italic": "DejaVuSerif-Italic", "mono": "DejaVuSansMono",
}  # fmt: skip
LATIN = script(
    "glyphs_latin",
    [
        ("upper_a", "plain", "Which of the capital letters A to P it is.", "ABCDEFGHIJKLMNOP"),
        ("upper_b", "lighting", "Which of the capital letters Q to Z it is.", "QRSTUVWXYZ"),
        ("lower_a", "texture", "Which of the small letters a to m it is.", "abcdefghijklm"),
        ("lower_b", "noise", "Which of the small letters n to z it is.", "nopqrstuvwxyz"),
        ("digits", "clutter", "Which printed digit it is.", "0123456789"),
        ("accents", "blur", "Which accent the letter e or o carries.", "eéèêëoóòôö"),
        ("look_alikes", "grey", "Which of some similar characters it is.", "Il1|ijt7Z2S5"),
    ],
)
LATIN_SORTS = family(
    "glyphs_latin",
    "structured",
    [
        ("fonts", "low_contrast", "In which typeface a random letter is set.", _font_style, _FONTS),
        ("sorts", "occlusion", "Of which sort a random character is.", _any_of, _SORTS),
        (
            "turned",
            "plain",
            "By how many quarter turns a letter is turned.",
            _turned,
            numbered(["upright", "left", "upside_down", "right"]),
        ),
    ],
)
GREEK = script(
    "glyphs_greek",
    [
        ("lower_a", "plain", "Which of the small letters alpha to mu it is.", "αβγδεζηθικλμ"),
        ("lower_b", "clutter", "Which of the small letters nu to omega it is.", "νξοπρςστυφχψω"),
        ("upper", "noise", "Which capital that Latin doesn't have it is.", "ΓΔΘΛΞΠΣΦΨΩ"),
        ("mixed", "blur", "Which of some letters, capital or small, it is.", "αβγδΓΔθωΩλΛΣ"),
        ("upper_textured", "texture", "Which capital lies on a texture.", "ΓΔΘΛΞΠΣΦΨΩΑΒ"),
        ("accents", "low_contrast", "Which vowel with which mark it is.", "άέήίόύώϊϋ"),
        ("occluded", "occlusion", "Which partly covered letter it is.", "αγδεζθλξπσφψω"),
    ],
)
CYRILLIC = script(
    "glyphs_cyrillic",
    [
        ("upper_a", "grey", "Which capital that Latin doesn't have it is.", "БГДЖЗИЛПФЦ"),
        ("upper_b", "lighting", "Which capital that Latin doesn't have it is.", "ЧШЩЪЫЬЭЮЯ"),
        ("lower_a", "noise", "Which small letter it is.", "бвгджзийклмн"),
        ("lower_b", "texture", "Which small letter it is.", "птфцчшщъыьэюя"),
        ("look_alikes", "plain", "Which of some similar letters it is.", "ЦЩШЧЬЪЫИЙНПЛ"),
        ("regional", "blur", "Which letter of the regional alphabets it is.", "ЂЃЄЇЉЊЋЏҐҖӘӨ"),
        ("inverted", "invert", "Which letter in clashing colours it is.", "БДЖИЛУФЭЮЯ"),
    ],
)
CAUCASUS = script(
    "glyphs_caucasus",
    [
        ("armenian_upper_a", "plain", "Which Armenian capital it is.", "ԱԲԳԴԵԶԷԸԹԺԻԼԽԾԿՀ"),
        ("armenian_upper_b", "noise", "Which Armenian capital it is.", "ՁՂՃՄՅՆՇՈՉՊՋՌ"),
        ("armenian_lower", "lighting", "Which small Armenian letter it is.", "աբգդեզէըթժիլ"),
        ("georgian_a", "texture", "Which Georgian letter it is.", "აბგდევზთიკლმ"),
        ("georgian_b", "blur", "Which Georgian letter it is.", "ნოპჟრსტუფქღყ"),
        ("georgian_c", "clutter", "Which Georgian letter it is.", "შჩცძწჭხჯჰთ"),
    ],
)
SYMBOLS = script(
    "glyphs_symbols",
    [
        ("arrows", "texture", "Which arrow it is.", "←↑→↓↔↕↖↗↘↙"),
        ("maths", "noise", "Which mathematical sign it is.", "∀∂∃∅∇∈∏∑√∞∩∪∫≈≠≤"),
        ("chess", "lighting", "Which chess piece it is.", "♔♕♖♗♘♙♚♛♜♝♞♟"),
        ("braille", "blur", "Which braille cell it is.", "⠁⠃⠉⠙⠑⠋⠛⠓⠊⠚⠅⠇⠍⠝"),
        ("boxes", "plain", "Which box-drawing piece it is.", "─│┌┐└┘├┤┬┴┼"),
        ("currency", "clutter", "Which currency sign it is.", "¢£¤¥₣₤₦₩₪₫€₱"),
        ("pictures", "occlusion", "Which pictogram it is.", "☀☁☂☃★☎☠☢☮☯☺♠♣♥♦♫"),
        ("fractions", "low_contrast", "Which fraction it is.", "¼½¾⅓⅔⅛⅜⅝⅞"),
    ],
)
HEBREW_ARABIC = script(
    "glyphs_hebrew_arabic",
    [
        ("hebrew_a", "plain", "Which Hebrew letter it is.", "אבגדהוזחטיכ"),
        ("hebrew_b", "texture", "Which Hebrew letter it is.", "למנסעפצקרשת"),
        ("hebrew_look_alikes", "grey", "Which of some similar Hebrew letters it is.", "דרךוןזיחהת"),
        ("arabic_a", "lighting", "Which Arabic letter it is.", "ابتثجحخدذرز"),
        ("arabic_b", "noise", "Which Arabic letter it is.", "سشصضطظعغفقك"),
        ("arabic_c", "clutter", "Which Arabic letter it is.", "لمنهويءةى"),
        ("arabic_digits", "blur", "Which Arabic digit it is.", "٠١٢٣٤٥٦٧٨٩"),
        ("persian_digits", "occlusion", "Which Persian digit it is.", "۰۱۲۳۴۵۶۷۸۹"),
    ],
)
TASKS = (*LATIN, *LATIN_SORTS, *GREEK, *CYRILLIC, *CAUCASUS, *SYMBOLS, *HEBREW_ARABIC)
