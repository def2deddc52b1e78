"""The tags of a text as a tree, and random texts with tags. Knows HTML by itself: nothing here comes from the server."""
import random
import re

VOID = {"area", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
INLINE = {"a", "abbr", "b", "bpt", "code", "del", "em", "ept", "font", "g", "i", "img", "input", "ins", "kbd", "mark", "q",
          "samp", "script", "small", "span", "strong", "style", "sub", "sup", "u", "var", "wbr", "x"}
TOKEN = re.compile(r"<!--.*?-->|<!\[CDATA\[.*?\]\]>|<\?.*?\?>|<![^>]*>|</?[A-Za-z](?:[^\"'>]|\"[^\"]*\"|'[^']*')*>", re.S)
RAW = re.compile(r"(<(script|style|textarea)\b[^>]*>)(.*?)(</\2>)", re.S | re.I)


def tags(text):
    """All tags, comments and the like, in order; what scripts contain is left out."""
    return TOKEN.findall(RAW.sub(r"\1\4", text))


def name_of(tag):
    return re.match(r"</?([^\s/>]+)", tag).group(1).lower()


def tree(text):
    """A line with each tag in its parent: p(b i(u)). Inline neighbours stand in alphabetical order, since a translation may
    change theirs; a tag without its partner is one of these, with a "?"."""
    root = ("", [])
    stack = [root]
    for tag in tags(text):
        if tag[1] in "!?":
            stack[-1][1].append((tag, []))
        elif tag.startswith("</"):
            names = [node[0].split()[0].lower() for node in stack[1:]]
            if name_of(tag) not in names:
                stack[-1][1].append((tag + "?", []))
                continue
            while stack.pop()[0].split()[0].lower() != name_of(tag):
                pass
        else:
            node = (tag[1:-1].strip(), [])
            stack[-1][1].append(node)
            if not tag.endswith("/>") and name_of(tag) not in VOID:
                stack.append(node)
    return show(root[1])


def is_inline(node):
    return node[0][0] in "!?<" or node[0].split()[0].strip("/").lower() in INLINE


def show(nodes):
    runs = [[]]
    for node in nodes:
        text = node[0] + (f"({show(node[1])})" if node[1] else "")
        if is_inline(node):
            runs[-1].append(text)
        else:
            runs += [[text], []]
    return " ".join(text for run in runs for text in sorted(run))


WORDS = ["I am tired", "where is the station", "the red car", "thank you", "my brother", "good morning", "a new book", "we are here",
         "she likes green apples", "yesterday", "no", "how are you", "the dog sleeps", "open the door", "it is cold"]
MARKS = [". ", "? ", "! ", ", ", " ", " ", " "]
LONE = ["<br>", "<img src=\"a>b\">", "<!-- <b> -->", "<code>x &lt; y</code>", "&amp;", "&nbsp;", "&nosuch;", "<i class=\"icon\"></i>",
        "<span translate=\"no\">Tom <b>B.</b></span>", "<wbr>", "<hr/>", "<input disabled>", "<script>if (a<b) c(\"</p>\")</script>"]
PAIRS = ["b", "i", "u", "em", "a href=\"/x?a=1&amp;b=2\"", "span class='c'", "sub"]
BLOCKS = ["p", "div", "li", "td", "h2"]


def fragment(rng, depth=0):
    """A text with balanced tags."""
    text = ""
    for _ in range(rng.randint(1, 3)):
        kind = rng.random()
        if kind < 0.45 or depth > 3:
            text += rng.choice(WORDS) + rng.choice(MARKS)
        elif kind < 0.63:
            text += rng.choice(LONE) + rng.choice(["", " "])
        else:
            tag = rng.choice(PAIRS if kind < 0.88 else BLOCKS)
            text += f"<{tag}>{fragment(rng, depth + 1)}</{tag.split()[0]}>" + rng.choice(["", " "])
    return text


def fragments(seed, n):
    rng = random.Random(seed)
    return [fragment(rng) for _ in range(n)]
