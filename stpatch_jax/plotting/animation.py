"""Animations: any plot, frame after frame, as a GIF."""

from collections.abc import Callable
from pathlib import Path

from matplotlib.animation import PillowWriter
from matplotlib.axes import Axes

from stpatch_jax.errors import check_size, require
from stpatch_jax.files import has_suffix, replaced
from stpatch_jax.plotting.style import new_figure


def animate(
    draw: Callable[[Axes, int], object],
    frames: int,
    path: str | Path,
    *,
    size: tuple[float, float] = (5.0, 4.0),
    per_second: float = 4.0,
    dpi: int = 80,
) -> Path:
    """Draws a plot for each frame and writes them as a GIF that repeats.

    Args:
        draw: `draw(ax, number)` draws one frame, such as `map_panel` of one time with the same
            `limits` for all.
        frames: Number of frames.
        path: The `.gif` to write, under a temporary name that is then renamed.
        size: Of the picture, in inches.
        per_second: Frames per second.
        dpi: Dots per inch.

    Returns:
        `path`.

    Raises:
        InputError: The path does not end with .gif or cannot be written, or there is no frame.
    """
    path = Path(path)
    require(has_suffix(path, ".gif"), f"an animation must be a .gif, got {path.name}; name it so")
    check_size("frames", frames)
    figure = new_figure(1, 1, size=size)
    writer = PillowWriter(fps=per_second)  # pyright: ignore[reportArgumentType]
    with replaced(path) as part, writer.saving(figure, str(part), dpi):
        for number in range(frames):
            figure.clear()
            draw(figure.subplots(), number)
            writer.grab_frame()
    return path
