"""The picture of the rooms: which folder of the package imports which, read from the source, drawn as SVG."""

from __future__ import annotations

import ast
from html import escape
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "thesis_rec"

_ROW, _BOX, _GAP = 74, 118, 12


def room_imports(package: Path = PACKAGE) -> dict[str, set[str]]:
    """For each folder of the package, the other folders whose modules it imports, inside functions too."""
    rooms = sorted(path.name for path in package.iterdir() if (path / "__init__.py").is_file())
    found: dict[str, set[str]] = {room: set() for room in rooms}
    for room in rooms:
        for file in (package / room).rglob("*.py"):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            typing_only = {id(inner) for node in ast.walk(tree) if _guards(node) for inner in ast.walk(node)}
            for node in ast.walk(tree):
                if id(node) in typing_only:
                    continue
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module:
                    names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                parts = [name.split(".") for name in names if name.startswith(f"{package.name}.")]
                found[room] |= {part[1] for part in parts if part[1] in found and part[1] != room}
    return found


def layers(imports: dict[str, set[str]]) -> list[list[str]]:
    """Rooms by height, the lowest first: each lies above all that it imports; rooms in a circle share a height."""
    height = dict.fromkeys(imports, 0)
    for _ in imports:
        for room, below in imports.items():
            lower = [height[other] for other in below if room not in _reached(imports, other)]
            height[room] = max([height[room], *(level + 1 for level in lower)])
    return [[room for room in imports if height[room] == level] for level in range(max(height.values()) + 1)]


def rooms_svg() -> str:
    """The picture; a room's imports are named when the pointer is on it."""
    imports = room_imports()
    rows = layers(imports)[::-1]
    width = max(len(row) for row in rows) * (_BOX + _GAP)
    place: dict[str, tuple[float, int]] = {}
    parts, lines = [], []
    for i, row in enumerate(rows):
        left = (width - len(row) * (_BOX + _GAP) + _GAP) / 2
        place |= {room: (left + j * (_BOX + _GAP), i * _ROW + 4) for j, room in enumerate(row)}
    for room, (x, y) in place.items():
        below = sorted(imports[room])
        title = escape(f"{room} imports {', '.join(below) or 'no other room'}")
        parts.append(
            f'<g><title>{title}</title><rect x="{x:.0f}" y="{y}" width="{_BOX}" height="34" rx="6" class="room"/>'
            f'<text x="{x + _BOX / 2:.0f}" y="{y + 22}" text-anchor="middle">{escape(room)}</text></g>'
        )
        lines += [
            f'<path d="M{x + _BOX / 2:.0f},{y + 34}L{place[other][0] + _BOX / 2:.0f},{place[other][1]}"/>'
            for other in below
        ]
    style = (
        ".rooms path{stroke:#94a3b8;stroke-width:.7;opacity:.6}.rooms .room{fill:#e2e8f0;stroke:#475569}"
        ".rooms text{font:13px sans-serif;fill:#0f172a}"
    )
    return (
        f'<svg class="rooms" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {len(rows) * _ROW - 30}" '
        f'role="img" aria-label="rooms of the package, each above those that it imports"><style>{style}</style>'
        f"{''.join(lines)}{''.join(parts)}</svg>"
    )


def _guards(node: ast.AST) -> bool:
    """Whether a node is ``if TYPE_CHECKING:``."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _reached(imports: dict[str, set[str]], start: str) -> set[str]:
    """All rooms that a room imports, directly or not."""
    seen: set[str] = set()
    queue = [start]
    while queue:
        new = imports[queue.pop()] - seen
        seen |= new
        queue += new
    return seen
