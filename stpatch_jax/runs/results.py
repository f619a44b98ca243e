"""Result files of many runs in one folder: what is finished is not done again."""

from pathlib import Path
from typing import Any

from stpatch_jax.files import from_json
from stpatch_jax.runs.config import RunConfig
from stpatch_jax.runs.directory import RunDirectory
from stpatch_jax.runs.values import to_values


def finished(file: Path, config: RunConfig, name: str) -> dict[str, Any] | None:
    """The result of that name where the file is of this very configuration, else None."""
    try:
        saved = from_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    record = saved if isinstance(saved, dict) else {}
    found = record.get(name)
    same = record.get("config") == to_values(config)
    return found if same and isinstance(found, dict) else None


def write_finished(file: Path, config: RunConfig, name: str, result: dict[str, Any]) -> None:
    """Writes such a file, which is there whole or not at all."""
    RunDirectory(file.parent).write_json(file, {"config": to_values(config), name: result})
