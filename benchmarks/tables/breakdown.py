"""Where a bulk call's time goes, and what its steps could reach."""

from __future__ import annotations

from typing import Any

from benchmarks.tables.growth import NOT_YET
from benchmarks.tables.results import Speed, markdown
from benchmarks.trace import PRODUCTS


def breakdown_table(speed: Speed) -> str:
    """Return for each dtype the steps beside their bounds, and what follows from them."""
    found = speed.raw.get("breakdown")
    if not found:
        return NOT_YET
    parts = [part for dtype, each in found.items() for part in _parts(dtype, each)]
    return speed.noted("\n\n".join(parts), "breakdown")


def _parts(dtype: str, found: dict[str, Any]) -> tuple[str, str]:
    rows = [
        (
            step["name"],
            f"{1000 * step['seconds']:.1f}",
            *(
                f"{step[key] * factor:.{digits}f}" if step[key] else ""
                for key, factor, digits in (
                    ("flop", 1e-9, 1),
                    ("product_s", 1000, 1),
                    ("bytes_s", 1000, 1),
                    ("bound_s", 1000, 1),
                    ("operation_s", 1000, 1),
                )
            ),
        )
        for step in found["steps"]
    ]
    products = [step for step in found["steps"] if step["name"] in PRODUCTS]
    rate = sum(step["flop"] for step in products) / sum(step["product_s"] for step in products)
    rows.append(
        (
            "**all**",
            f"**{1000 * found['wall_s']:.1f}**",
            f"{sum(step['flop'] for step in found['steps']) / 1e9:.1f}",
            *(
                f"{1000 * sum(step[key] for step in found['steps']):.1f}"
                for key in ("product_s", "bytes_s", "bound_s", "operation_s")
            ),
        )
    )
    header = (
        f"{dtype}, {found['n_pairs']:,} pairs",
        "ms",
        "GFLOP",
        "products alone, ms",
        "bytes, ms",
        "bound, ms",
        "PyTorch's operation alone, ms",
    )
    reached = found["achieved_over_bound"]
    rest_s = sum(step["seconds"] for step in found["steps"] if not step["limit_s"])
    with_rest_s = found["limit_s"] + rest_s
    note = (
        f"A large product reaches {found['matmul_flop_per_s'] / 1e9:,.0f} GFLOP/s here, the four "
        f"products of the full layer alone in their own shapes {rate / 1e9:,.0f}. So the floor is "
        f"{1000 * found['floor_s']:.0f} ms and the sum of the bounds "
        f"{1000 * found['bound_s']:.0f} ms: with every step at its bound, this forward pass would "
        f"reach {found['bound_over_floor']:.2f} of the floor. With PyTorch's operations as fast "
        f"as each is alone it would take {1000 * with_rest_s:.0f} ms, "
        f"**{found['floor_s'] / with_rest_s:.2f}** of the floor; without the "
        f"{1000 * rest_s:.0f} ms of what has no figure, {1000 * found['limit_s']:.0f} ms, "
        f"{found['limit_over_floor']:.2f} of the floor. It "
        f"reaches {found['achieved_over_floor']:.2f} of the floor, and {reached:.2f} of the bound."
    )
    return markdown(header, rows), note
