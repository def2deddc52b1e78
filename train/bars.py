"""A bar chart as SVG text, with nothing but the standard library: a group for each direction, a bar for each run."""
from xml.sax.saxutils import escape

BAR, GAP, HEIGHT, TOP, LEFT, BOTTOM = 26, 28, 200, 40, 46, 50
COLORS = ("#0b6e99", "#d9730d", "#8b3a8b", "#2e7d32", "#666666")


def label(x, y, text, anchor="middle", size=11):
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{escape(str(text))}</text>'


def unique(rows, key):
    return list(dict.fromkeys(row[key] for row in rows))


def bar_chart(title, rows, group_key, bar_key, value_key):
    """rows: dicts. Values are 0 or more; the scale ends at the next ten above the largest."""
    groups, bars = unique(rows, group_key), unique(rows, bar_key)
    top = 10 * (int(max(row[value_key] for row in rows)) // 10 + 1)
    group_width = BAR * len(bars) + GAP
    width = max(LEFT + group_width * len(groups) + GAP, 420)
    floor = TOP + HEIGHT
    parts = [label(LEFT, 22, title, "start", 14)]
    for tick in range(0, top + 1, max(top // 5, 1)):
        y = floor - tick / top * HEIGHT
        parts += [f'<path d="M{LEFT} {y:.1f}H{width - 10}" stroke="#dddddd"/>', label(LEFT - 6, y + 4, tick, "end")]
    for row in rows:
        color = bars.index(row[bar_key])
        x = LEFT + GAP / 2 + groups.index(row[group_key]) * group_width + color * BAR
        height = row[value_key] / top * HEIGHT
        parts += [f'<rect x="{x:.1f}" y="{floor - height:.1f}" width="{BAR - 4}" height="{height:.1f}" '
                  f'fill="{COLORS[color % len(COLORS)]}"/>',
                  label(x + BAR / 2 - 2, floor - height - 4, f"{row[value_key]:.1f}", size=9)]
    for i, name in enumerate(groups):
        parts.append(label(LEFT + GAP / 2 + i * group_width + BAR * len(bars) / 2, floor + 16, name))
    for i, name in enumerate(bars):
        y = floor + BOTTOM - 8 + 16 * i
        parts += [f'<rect x="{LEFT}" y="{y - 9}" width="10" height="10" fill="{COLORS[i % len(COLORS)]}"/>',
                  label(LEFT + 16, y, name, "start")]
    height = floor + BOTTOM + 16 * len(bars)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" font-family="sans-serif" fill="#222222">\n'
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n")
