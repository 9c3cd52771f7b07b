"""One palette for every figure, on screen and in print: depth is a ramp, size is one hue."""

import colorsys


INK = "#1f2933"
MUTED = "#8a94a0"
ACCENT = "#c2410c"
_HEAT = ((244, 246, 249), (158, 190, 224), (59, 120, 190), (23, 60, 120))


def layer_colors(count: int) -> list[str]:
    """A hex colour for each layer, from blue (first) through green to red (last)."""
    return [_depth(i / max(count - 1, 1)) for i in range(count)]


def heat(t: float | int) -> str:
    """The hex colour of t in [0, 1]: pale for little, dark blue for much."""
    place = min(max(t, 0.0), 1.0) * (len(_HEAT) - 1)
    i = min(int(place), len(_HEAT) - 2)
    mixed = (a + (b - a) * (place - i) for a, b in zip(_HEAT[i], _HEAT[i + 1], strict=True))
    return "#" + "".join(f"{round(channel):02x}" for channel in mixed)


def ink_on(t: float | int) -> str:
    """The text colour that can be read on `heat(t)`."""
    return "#ffffff" if t > 0.5 else INK


def _depth(t: float) -> str:
    red, green, blue = colorsys.hls_to_rgb((225 - 215 * t) / 360, 0.47, 0.62)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"
