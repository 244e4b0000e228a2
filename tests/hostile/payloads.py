"""Texts that would do something where they are not taken for text: in a page, on a terminal."""

from __future__ import annotations

PAYLOADS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='x",
    '" onfocus="alert(1)" autofocus x="',
    "javascript:alert(1)",
    "</style><script>alert(1)</script>",
    "</title><svg onload=alert(1)>",
    "</script><script>alert(1)</script>",
    "</pre></code></summary></details></td></table><h1>x</h1>",
    "<!--",
    "--><b>x</b>",
    "]]>",
    "<![CDATA[<b>x</b>]]>",
    "<?php echo 1 ?>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;b&#62;x &quot;&apos;",
    "{{7*7}}",
    "{% for x in range(9) %}x{% endfor %}{# x",
    "${7*7} #{7*7} %(x)s {0} %n",
    '<base href="//evil.example/">',
    '<meta http-equiv="refresh" content="0;url=//evil.example">',
    'x" srcset="//evil.example/x',
    '<a href="data:text/html,<script>alert(1)</script>">x</a>',
    "<svg/onload=alert(1)//",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "\\u003cscript\\u003ealert(1)\\u003c/script\\u003e",
    "`${alert(1)}` \\x3cb\\x3e",
    "<plaintext><xmp><noscript><textarea><template>",
]
CONTROLS = [
    "\x1b[31mred", "\x1b]0;owned\x07", "\x1bP+q\x1b\\", "\x9b31mred", "\x90\x9c", "\u202eabc", "\u2066x\u2069",
    "\u200f\u061c", "\x00", "\r", "\x08\x7f", "\x85\u2028\u2029", "\ufeff\u200b\u00ad", "\ud800", "\udfff\ud83d",
    "\U000e0041\U000f0000", "\ufffe", "\t", "\n", "\x0c\x1a",
]  # fmt: skip
