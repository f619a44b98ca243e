"""A run directory: what lies where in it, whose it is, and how files in it are replaced."""

from pathlib import Path
from typing import Any

import stpatch_jax
from stpatch_jax.errors import InputError, require
from stpatch_jax.files import OTHER, from_json, is_own, replaced, require_run, to_json, usable
from stpatch_jax.runs.values import difference

FORMAT = 1
"""Of a run directory. Whatever an older reader would take for something else raises it."""

_FREE = {
    "train": ("mesh", "step_timeout", "profile"),
    "data": ("most_bytes",),
    "recipe_file": ("digest",),
}
"""Entries that may change from one call to the next."""


class RunDirectory:
    """The files of one run under one path.

    `config.json` (everything, resolved), `metrics.jsonl`, `checkpoints/`, `report.json`,
    `report.md`, `plots/`, and both of these in `report.html`. Files are written under a temporary
    name and then renamed, so a reader never meets half a file.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config_file = self.path / "config.json"
        self.checkpoints = self.path / "checkpoints"
        self.metrics_file = self.path / "metrics.jsonl"
        self.report_file = self.path / "report.json"
        self.summary_file = self.path / "report.md"
        self.page_file = self.path / "report.html"
        self.plots = self.path / "plots"

    def claim(self, config: dict[str, Any]) -> None:
        """Makes the directory this configuration's, or accepts it where it already is.

        Only `train.steps` may have grown since. `train.mesh`, `train.step_timeout`,
        `train.profile` and `data.most_bytes` may be others: they do not decide what comes out.

        Raises:
            InputError: The directory belongs to another configuration or is no run directory, or
                cannot be written; nothing was written then.
        """
        if self.config_file.exists():
            self.require_same(config)
        elif self.path.exists() and (
            not self.path.is_dir() or not all(map(is_own, self.path.iterdir()))
        ):
            raise InputError(
                f"the run directory {self.path} must be empty or hold a run, got something else; "
                "choose another workdir="
            )
        with usable(path=self.path, must_be="writable", advice=OTHER):
            self.path.mkdir(parents=True, exist_ok=True)
        # Of several processes only the first finds another one.
        if not self.config_file.exists() or self.config() != config:
            form = {"format": FORMAT, "version": stpatch_jax.__version__}
            self.write_json(self.config_file, form | config)

    def require_same(self, config: dict[str, Any]) -> None:
        """Refuses another configuration than that of the run, see `claim`.

        Raises:
            InputError: It is another one, or the path is no run directory.
        """
        before = self.config()
        for part, names in _FREE.items():
            old, now = before.get(part), config.get(part)
            if isinstance(old, dict) and isinstance(now, dict):
                before[part] = {**old, **{name: now[name] for name in names if name in now}}
                if part == "train" and old.get("steps", 0) <= now["steps"]:
                    before[part]["steps"] = now["steps"]
        if changed := difference(before, config):
            name, old, new = changed
            raise InputError(
                f"the run in {self.path} must go on with {name} = {old!r}, got {new!r}; repeat its "
                "command (only train.steps may grow) or choose another workdir="
            )

    def config(self) -> dict[str, Any]:
        """The configuration the run was made with, as JSON values.

        Raises:
            InputError: The path is no run directory, of another format, or cannot be read.
        """
        require_run(self.path)
        values = self._read(self.config_file, "restore it, or train the run anew")
        made, version = values.pop("format", None), values.pop("version", "")
        require(
            made == FORMAT,
            f"the run in {self.path} must have the format {FORMAT}, got {made or 'none'}; use "
            f"stpatch_jax {version or 'before 0.1.0'}, which made it, or train it anew",
        )
        # Before it was said by name what is recomputed, it was whether.
        train = values.get("train")
        if isinstance(train, dict) and isinstance(train.get("remat"), bool):
            train["remat"] = "dots" if train["remat"] else "none"
        # And nothing of a transformer was shared.
        if isinstance(train, dict) and isinstance(mesh := train.get("mesh"), dict):
            train["mesh"] = {**mesh, **{k: mesh.get(k, 1) for k in ("sequence", "model")}}
        return values

    def has_unfinished(self) -> bool:
        """Whether a command is at work here, or was killed."""
        return any(map(is_own, self.path.iterdir()))

    def report(self) -> dict[str, Any] | None:
        """The report of the run, None where it has none yet."""
        if not self.report_file.exists():
            return None
        return self._read(self.report_file, "delete it and run again")

    def summary(self) -> str:
        """The report of the run as Markdown; empty where it has none yet."""
        if not self.summary_file.exists():
            return ""
        return self.summary_file.read_text(encoding="utf-8", errors="replace")

    def _read(self, file: Path, advice: str) -> dict[str, Any]:
        try:
            values = from_json(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            why = error.strerror or error if isinstance(error, OSError) else "a damaged one"
            raise InputError(
                f"{self.path} must be a run directory with a readable {file.name}, got {why}; "
                f"{advice}"
            ) from error
        if not isinstance(values, dict):
            raise InputError(f"{file} must hold one JSON object, got {values!r:.40}; {advice}")
        return values

    def write_json(self, file: Path, values: Any) -> None:
        """Replaces a JSON file in one rename."""
        with replaced(file) as part:
            part.write_text(to_json(values, indent=2) + "\n", encoding="utf-8")
