"""Small line charts as SVG text, with nothing but the standard library: a list of panels beside each other."""
import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 460, 322
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 46, 74
COLORS = ("#0b6e99", "#d9730d", "#8b3a8b", "#2e7d32", "#666666")


class Panel:
    """lines: [(label, [(x, y), ...])]; y None leaves a gap. marks: [(x, label)] vertical lines."""

    def __init__(self, title, x_label, y_label, lines, marks=(), y_is_log=False, x_is_log=False):
        self.title, self.x_label, self.y_label = title, x_label, y_label
        self.lines, self.marks = lines, marks
        points = [p for _, line in lines for p in line if p[1] is not None]
        self.x_scale = Scale([x for x, _ in points] + [x for x, _ in marks], x_is_log)
        self.y_scale = Scale([y for _, y in points], y_is_log)

    def x(self, value):
        return LEFT + self.x_scale.share(value) * (WIDTH - LEFT - RIGHT)

    def y(self, value):
        return HEIGHT - BOTTOM - self.y_scale.share(value) * (HEIGHT - TOP - BOTTOM)

    def draw(self):
        right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
        out = [text(LEFT, 22, self.title, "start", 14, bold=True)]
        for value in self.y_scale.ticks:
            y = self.y(value)
            out.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="#dddddd"/>')
            out.append(text(LEFT - 6, y + 4, f"{value:g}", "end"))
        for value in self.x_scale.ticks:
            x = self.x(value)
            out.append(f'<path d="M{x:.1f} {bottom}v4" stroke="#333333"/>')
            out.append(text(x, bottom + 17, f"{value:g}", "middle"))
        out.append(f'<path d="M{LEFT} {TOP}V{bottom}H{right}" stroke="#333333" fill="none"/>')
        out.append(text((LEFT + right) / 2, bottom + 36, self.x_label, "middle"))
        out.append(f'<g transform="translate(16 {(TOP + bottom) / 2}) rotate(-90)">{text(0, 0, self.y_label, "middle")}</g>')
        for i, (value, label) in enumerate(self.marks):
            x = self.x(value)
            out.append(f'<path d="M{x:.1f} {TOP}V{bottom}" stroke="#999999" stroke-dasharray="4 3"/>')
            out.append(text(x - 4, TOP + 10 + 14 * i, label, "end"))
        for i, (label, line) in enumerate(self.lines):
            out += self.draw_line(COLORS[i % len(COLORS)], line)
            x, y = LEFT + i % 3 * 130, bottom + 56 + i // 3 * 18
            out.append(f'<path d="M{x} {y - 4}h18" stroke="{COLORS[i % len(COLORS)]}" stroke-width="2"/>')
            out.append(text(x + 24, y, label, "start"))
        return "".join(out)

    def draw_line(self, color, line):
        points = [(self.x(x), self.y(y)) for x, y in line if y is not None]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{color}"/>' for x, y in points)
        return [f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>', dots]


class Scale:
    """From 0, or from a power of ten, to a round value at or above the largest."""

    def __init__(self, values, is_log):
        self.is_log = is_log
        top = max(values, default=1) or 1
        if is_log:
            low = math.floor(math.log10(max(min(values, default=1), 1e-9)))
            high = max(math.ceil(math.log10(top)), low + 1)
            self.ticks = [m * 10**e for e in range(low, high) for m in (1, 2, 5)] + [10**high]
            self.low, self.high = low, high
        else:
            step = 10 ** math.floor(math.log10(top))
            step = next(s for s in (step / 5, step / 2, step, 2 * step) if top / s <= 6)
            n = math.ceil(top / step - 1e-9)
            self.ticks = [round(i * step, 9) for i in range(n + 1)]
            self.low, self.high = 0, n * step

    def share(self, value):
        at = math.log10(value) if self.is_log else value
        return (at - self.low) / (self.high - self.low)


def text(x, y, content, anchor, size=11, bold=False):
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"{weight}>{escape(content)}</text>'


def figure(panels):
    body = "".join(f'<g transform="translate({i * WIDTH} 0)">{p.draw()}</g>\n' for i, p in enumerate(panels))
    width = WIDTH * len(panels)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{HEIGHT}" viewBox="0 0 {width} {HEIGHT}" '
            f'font-family="sans-serif" fill="#222222">\n<rect width="{width}" height="{HEIGHT}" fill="#ffffff"/>\n{body}</svg>\n')
