"""Writes jinja.json: small templates, their variables, and what jinja2 makes of them as transformers sets it up.

    python tests/golden/make_jinja.py

Needs jinja2 and transformers (whose own environment renders every case). A case that fails there has "error": true.
"""

import json
import pathlib

from transformers.utils.chat_template_utils import _compile_jinja_template

VARIABLES = {
    "name": "World",
    "empty": "",
    "text": "  Hello, <|im_end|> Wörld!\n\tbye  ",
    "lines": "one\n two\n\nthree\n",
    "n": 7,
    "zero": 0,
    "big": 123456789012,
    "f": 2.5,
    "tiny": 1e-7,
    "huge": 1e22,
    "neg": -3,
    "yes": True,
    "no": False,
    "nothing": None,
    "list": [3, 1, 2],
    "words": ["banana", "Apple", "cherry", "apple"],
    "nested": [[1, 2], [3, [4, "x'y"]], {"a": None}],
    "d": {"b": 1, "A": "two", "items": [1], "c d": {"e": [True, None, 1.5]}},
    "people": [
        {"name": "ann", "age": 30, "tags": ["x"]},
        {"name": "Bob", "age": 25, "tags": []},
        {"name": "cid", "age": 41},
    ],
    "mixed": "quote\" and 'single' \\ back\u0001\u00e9\u4e2d\U0001f600",
}

EXPRESSIONS = r"""
1 + 2 * 3
(1 + 2) * 3
7 // 2
-7 // 2
7 % 3
-7 % 3
7 / 2
6 / 3
2 ** 10
2 ** -1
-2 ** 2
7.5 // 2
-7.5 % 2
1_000 + 0x1F + 0b11 + 0o17
1e3
1.5e-3
1.0
1e16
123456789.125
1e15
0.0001
0.00001
1e22
tiny
huge
f
100 * 1.1
'a' 'b' "c"
'a\n\tb\\\'\x41\u00e9\q'
'a' ~ 1 ~ true ~ none ~ 2.0
'ab' * 3
3 * 'ab'
[1, 2] * 2
[1] + [2, 3]
(1, 2) + (3,)
(1,)
()
[]
{}
{'a': 1, 'b': [1, 2]}
{1: 2, true: 3}
nested
d
people[0]
mixed
[mixed]
[1.0, 'it''s', "don't", '"', '\'"']
not true
not empty
1 == 1.0
1 == true
'a' == 'b'
'1' == 1
[1, 2] == [1, 2]
{'a': 1} == {'a': 1.0}
(1, 2) == [1, 2]
none == none
nothing == none
nope == nope2
nope == none
1 < 2 < 3
1 < 3 < 2
3 > 2 >= 2 != 1
'a' < 'b'
[1, 2] < [1, 3]
'a' < 1
none < 1
1 in list
9 not in list
'W' in name
1 in 'abc'
'b' in d
'x' in nope
'a' in nothing
1 and 2
0 and 2
0 or 'x'
'' or none
yes and not no
1 if yes else 2
1 if no else 2
1 if no
'a' if no else 'b' if no else 'c'
name.nope
name.nope.more
nope
nope.x
nope['x']
nope()
nope + 1
name + 1
name ~ nope
none + 'a'
d.b
d['A']
d['c d'].e[2]
d['items']
d.nope
d.nope is defined
d.get('b')
d.get('zz')
d.get('zz', 5)
d.keys()|list
d.values()|list
d.items()|list
list[0]
list[-1]
list[9]
list['a']
list[1:]
list[:-1]
list[::-1]
list[::2]
list[-2:]
list[5:1]
list[2:0:-1]
list[10:-10:-2]
name[0]
name[-1]
name[1:3]
name[::-1]
name[::2]
text[3:8]
mixed[-1]
mixed[::-1]
list[0:0]
list[::0]
list[1.5]
people[0].name
people.0.name
people[0]['tags'][0]
nested[1][1][1]
name.upper()
name.lower()
'hello world-foo bar'.title()
'hello WORLD'.capitalize()
text.strip()
text.lstrip()
text.rstrip()
'xxaxx'.strip('x')
'xyaxy'.lstrip('xy')
'a,b,,c'.split(',')
'a,b,,c'.split(',', 1)
'a,b,,c'.rsplit(',', 1)
' a  b c '.split()
' a  b c '.split(none, 1)
' a  b c '.rsplit(none, 1)
'abc'.split('')
lines.splitlines()
lines.splitlines(true)
lines.split('\n')[0]
'a=b=c'.partition('=')
'a=b=c'.rpartition('=')
'abc'.partition('x')
name.startswith('Wo')
name.startswith(('x', 'W'))
name.endswith('ld')
name.startswith('o', 1)
name.find('r')
name.find('zz')
name.rfind('o')
name.index('zz')
name.count('o')
'aaa'.replace('a', 'bb')
'aaa'.replace('a', 'b', 2)
'abc'.replace('', '-')
','.join(['a', 'b'])
','.join(words)
','.join([1])
'{} and {}'.format(1, 'x')
'{0}{1}{0}'.format('a', 'b')
'{x}{{}}'.format(x=3)
'{'.format()
'abc'.removeprefix('a')
'abc'.removesuffix('bc')
'12'.isdigit()
'1a'.isdigit()
'ab'.isalpha()
'a1'.isalnum()
' '.isspace()
''.isspace()
'AB1'.isupper()
'ab'.islower()
'ab'.ljust(4, '.') ~ '|'
'ab'.rjust(4)
'x'.nope()
list.append(4)
d.update({'x': 1})
list.index(1)
list.count(3)
name|upper
name|lower
'a bc-d (ef) [gh]'|title
'hELLO wORLD'|capitalize
text|trim
'xxaxx'|trim('x')
nope|trim
5|trim
name|length
list|count
d|length
nope|length
5|length
mixed|length
list|join
list|join(', ')
people|join(', ', attribute='name')
nope|join
5|join
name|replace('o', '0')
'aaa'|replace('a', 'b', 2)
5|replace('5', 'x')
nope|default('x')
nope|d
empty|default('x')
empty|default('x', true)
nothing|default('x')
nothing|d('x', boolean=true)
list|first
list|last
[]|first
[]|last
words|first|upper
d|list
name|list
'abc'|reverse
list|reverse|list
d|items|list
nope|items|list
d|dictsort
{'b': 1, 'A': 2, 'c': 0}|dictsort
{'b': 1, 'A': 2, 'c': 0}|dictsort(true)
{'b': 1, 'A': 2, 'c': 0}|dictsort(false, 'value')
{'b': 1, 'A': 2, 'c': 0}|dictsort(reverse=true)
list|sort
list|sort(reverse=true)
words|sort
words|sort(case_sensitive=true)
people|sort(attribute='age')|map(attribute='name')|list
['a', 1]|sort
words|unique|list
words|unique(true)|list
words|map('upper')|list
words|map('replace', 'a', 'o')|list
people|map(attribute='name')|join('/')
people|map(attribute='tags', default='none')|list
people|map(attribute='tags.0')|list
people|map(attribute='nope')|list
list|select('odd')|list
list|select('gt', 1)|list
[0, 1, '', 'a']|select|list
list|reject('odd')|list
[0, 1, '', 'a']|reject|list
people|selectattr('tags')|map(attribute='name')|list
people|selectattr('age', 'gt', 26)|map(attribute='name')|list
people|selectattr('name', 'equalto', 'Bob')|list
people|rejectattr('age', '>', 26)|map(attribute='name')|list
people|selectattr('tags', 'defined')|list|length
people|selectattr('tags')|length
people|selectattr('nope')|list
list|map('nope')|list
list|select('nope')|list
list|batch(2)|list
list|batch(2, 'x')|list
people|groupby('age')|list|length
words|groupby(0)|list
words|groupby('0')|list
list|max
list|min
words|max
people|max(attribute='age')
[]|max
list|sum
people|sum(attribute='age')
list|sum(start=10)
'3'|int
'3.7'|int
'x'|int
'x'|int(9)
' 42 '|int
'ff'|int(base=16)
3.9|int
true|int
none|int
'2.5'|float
'x'|float
'1e3'|float
3|float
3|string
none|string
[1,'a']|string
2.567|round(2)
2.5|round
3.5|round
2.567|round(1, 'floor')
2.561|round(1, 'ceil')
7|round
1234.5|round(-2)
-3|abs
-2.5|abs
'x'|abs
lines|indent
lines|indent(2)
lines|indent(2, true)
lines|indent(2, false, true)
lines|indent('> ', first=true)
'<a href="x">&\'</a>'|e
'<b>'|escape
'<b>'|safe
'%s-%d-%05.1f|%5s|%-5s|%x'|format('a', 3, 2.345, 'b', 'c', 255)
'%s' % name
'%s %s' % (1, 2)
'%d%%' % 5
'%s %s' % name
'%d' % 'x'
'ab'|center(7) ~ '|'
'one two  three'|wordcount
nope|upper
5|upper
list|tojson
d|tojson
nested|tojson
d|tojson(indent=2)
nested|tojson(indent=4)
[]|tojson(indent=2)
{}|tojson(indent=2)
d|tojson(separators=(',', ':'))
{'b': 1, 'a': [1, 2]}|tojson(sort_keys=true)
mixed|tojson
mixed|tojson(ensure_ascii=true)
1.0|tojson
huge|tojson
none|tojson
{1: 2, none: 3, true: 4, 1.5: 6}|tojson
nope|tojson
(1, 2)|tojson
'a\u007fb'|tojson
nope is defined
name is defined
nope is undefined
nothing is none
name is none
name is string
n is string
d is mapping
list is mapping
list is sequence
name is sequence
d is sequence
n is sequence
nope is sequence
list is iterable
n is iterable
nope is iterable
n is number
f is number
yes is number
'7' is number
n is integer
yes is integer
f is integer
f is float
n is float
yes is boolean
n is boolean
yes is true
n is true
no is false
3 is odd
4 is odd
4 is even
'x' is odd
9 is divisibleby 3
9 is divisibleby(4)
'abc' is lower
'ABC' is upper
'Abc' is upper
n is eq 7
n is equalto(7)
n is ne 7
n is lt 8
n is gt 8
n is ge 7
n is le 6
1 is in list
none is sameas none
yes is sameas true
1 is sameas true
name is not none
not name is none
range is callable
name is callable
nope is not defined and true
range(3)|list
range(1, 7, 2)|list
range(3, 0, -1)|list
range(0)|list
range(1, 2, 0)|list
range('a')
range(3)[1]
range(5)|length
range(1000000)|length
dict(a=1, b='x')
dict({'a': 1}, b=2)
namespace(a=1).a
namespace(a=1).b
namespace(_a=1)
name.__class__
d.__class__
name.__class__.__mro__
5()
'x' is 'y'
list is string is defined
d|map('upper')|list
name|map('upper')|join('-')
[1, 2,]
{'a': 1,}
(1 + )
[1, 2
{'a' 1}
a..b
1 +
'unclosed
list[
list[1:2:3:4]
x = 1
@
$
name|
name|nofilter
name is notest
name.
1 2
true and
- 5
+5
--5
-n|abs
-list[0]
'a' ~ 'b' + 'c'
1 ~ 2 + 3
2 + 3 ~ 4
1 - 2 - 3
2 * 3 % 4
8 // 3 * 2
2 ** 3 ** 2
1 if true else 2 if true else 3
(yes if no else no) is false
list|length > 2 and name|upper == 'WORLD'
not list|length == 0
'a' in 'abc' and 'z' not in 'abc'
1 / 0
1 // 0
1 % 0
1.0 / 0
0 ** -1
9223372036854775807
'ÄÖß'|upper
'ÄÖ'|lower
'ǆ élan'|title
'\u00a0\u2003x\u3000'|trim
'a\u2003b c'.split()
yes + 1
yes * 'ab'
-yes
'abc' - 'a'
list + 'a'
'a' + list
nothing.x
nothing['x']
n.x
f['x']
none|list
none|length
none|upper
none|join
d|first
d|last
d|join(',')
'a'|first
''|first
{'x': name}['x']
[name, n][0]|lower
'a'.join('xyz')
"\"" ~ '\''
('a', 'b')[1]
'{}'.format(d)
name|string|length
1.5 in [1.5]
'' in name
[] in [[]]
none in [none]
true in [1]
loop
caller
varargs
raise_exception('stop ' ~ name)
raise_exception()
strftime_now('%%')
""".strip("\n").split("\n")

TEMPLATES = [
    "",
    "plain",
    "plain\n",
    "plain\n\n",
    "a\r\nb\rc\n",
    "{{ name }}",
    "{{ name }}\n",
    "{{ name }}\nx",
    "  {{ name }}  \n  x",
    "  {{- name -}}  \n  x",
    "  {{+ name }}  \n",
    "{% if yes %}\nA\n{% endif %}\nB\n",
    "  {% if yes %}\n  A\n  {% endif %}\n  B\n",
    "x  {% if yes %}  A  {% endif %}  B",
    "x\n  {%+ if yes %}\n A\n  {%+ endif +%}\nB",
    "x\n  {%- if yes -%}\n A\n  {%- endif -%}\nB",
    "\n\n  {% if yes %}  \n A{% endif %}",
    "{% if yes +%}\nA{% endif %}",
    "{# comment #}\nA",
    "  {# comment #}  \nA",
    "A  {#- c -#}  B",
    "  {#+ c +#}\nA",
    "{# multi\nline #}{{ n }}",
    "{# {{ n }} {% if %} #}x",
    "{# unclosed",
    "{{ unclosed",
    "{% if yes",
    "{{ {'a': {'b': 1}}['a']['b'] }}",
    "{{ {'a': 1}}}",
    "{{ '}}' }}{{ '%}' }}{% if '%}' %}y{% endif %}",
    "{% raw %}{{ x }} {% if %}{% endraw %}",
    "{% raw -%}  {{ x }}  {%- endraw %} y",
    "  {% raw %}\n {{ x }}\n  {% endraw %}\nz",
    "{%- raw -%} a {% endraw -%}  b",
    "{% raw %} never",
    "{% if no %}a{% elif n == 7 %}b{% else %}c{% endif %}",
    "{% if no %}a{% elif zero %}b{% else %}c{% endif %}",
    "{% if nope %}a{% endif %}",
    "{% if nope.x %}a{% endif %}",
    "{% if yes %}a",
    "{% endif %}",
    "{% if yes %}{% endfor %}",
    "{% else %}",
    "{% unknown %}",
    "{% %}",
    "{% 5 %}",
    "{% include 'x' %}",
    "{% import 'x' as y %}",
    "{% do list %}",
    "{% for x in list %}{{ x }},{% endfor %}",
    "{% for x in [] %}a{% else %}none{% endfor %}",
    "{% for x in nope %}a{% else %}none{% endfor %}",
    "{% for x in n %}{% endfor %}",
    "{% for x in nothing %}{% endfor %}",
    "{% for c in name %}{{ c }}.{% endfor %}",
    "{% for k in d %}{{ k }};{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in d|dictsort %}{{ k }}={{ v }};{% endfor %}",
    "{% for a, b in [[1, 2], (3, 4)] %}{{ a }}{{ b }}{% endfor %}",
    "{% for a, (b, c) in [[1, [2, 3]]] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for (a, b) in [[1, 2]] %}{{ a }}{{ b }}{% endfor %}",
    "{% for a, b in [[1]] %}{% endfor %}",
    "{% for a, b in [[1, 2, 3]] %}{% endfor %}",
    "{% for a, b in [1] %}{% endfor %}",
    "{% for x in list if x > 1 %}{{ loop.index }}/{{ loop.length }}:{{ x }} {% endfor %}",
    "{% for x in list if x > 9 %}{{ x }}{% else %}none{% endfor %}",
    "{% for x in list %}{{ loop.index }} {{ loop.index0 }} {{ loop.revindex }} {{ loop.revindex0 }} {{ loop.first }} {{ loop.last }} {{ loop.length }} {{ loop.depth }}{{ loop.depth0 }} {{ loop.previtem }} {{ loop.nextitem }} {{ loop.nope }}\n{% endfor %}",
    "{% for x in list %}{% if loop.previtem is defined %}{{ loop.previtem }}{% endif %}{{ x }}{% endfor %}",
    "{% for x in list %}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for x in [1, 1, 2] %}{{ loop.changed(x) }}{% endfor %}",
    "{% for x in list %}{% for y in list %}{{ loop.depth }}{{ loop.index }}{% endfor %}|{{ loop.index }}{% endfor %}",
    "{% for x in list %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in list %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in list %}{% for y in list %}{% break %}{% endfor %}{{ x }}{% endfor %}",
    "{% break %}",
    "{% if yes %}{% continue %}{% endif %}",
    "{% for x in list %}{% endfor %}{{ x }}",
    "{% for x in list %}{% set y = x %}{% endfor %}{{ y }}",
    "{% set y = 0 %}{% for x in list %}{% set y = y + x %}{{ y }}{% endfor %}{{ y }}",
    "{% set ns = namespace(t=0) %}{% for x in list %}{% set ns.t = ns.t + x %}{% endfor %}{{ ns.t }}",
    "{% set ns = namespace() %}{% set ns.a = 1 %}{{ ns.a }}{{ ns.b }}",
    "{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }}",
    "{% set ns = namespace(a=1) %}{{ ns['a'] }}",
    "{% set d.x = 1 %}",
    "{% set nope.x = 1 %}",
    "{% set ns = namespace() %}{% set ns._x = 1 %}",
    "{% if yes %}{% set y = 1 %}{% endif %}{{ y }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set a, b = [1, 2, 3] %}",
    "{% set a = 1, 2 %}{{ a }}",
    "{% set x = 5 if no else 6 %}{{ x }}",
    "{% set x %}a{{ n }}b{% endset %}{{ x|upper }}",
    "{% set x | upper | trim %} a{{ n }}b {% endset %}[{{ x }}]",
    "{% set x %}{% set y = 1 %}{% endset %}{{ y }}",
    "{% set ns = namespace() %}{% set ns.x %}abc{% endset %}{{ ns.x }}",
    "{% set true = 1 %}",
    "{% set 5 = 1 %}",
    "{% set x 1 %}",
    "{% set n = 8 %}{{ n }}",
    "{% for n in list %}{{ n }}{% endfor %}{{ n }}",
    "{% for x in list %}{{ n }}{% set n = x %}{{ n }} {% endfor %}{{ n }}",
    "{% macro m(a, b=2) %}[{{ a }}{{ b }}]{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(b=4, a=5) }}{{ m() }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(c=2) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}",
    "{% macro m(x) %}{% if x > 0 %}{{ x }}{{ m(x - 1) }}{% endif %}{% endmacro %}{{ m(3) }}",
    "{% macro m() %}{{ n }}{% endmacro %}{% set n = 9 %}{{ m() }}",
    "{% for x in list %}{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% endfor %}",
    "{% macro m() %}{{ x }}{% endmacro %}{% for x in list %}{{ m() }}{% endfor %}",
    "{% macro m(a, b=a) %}{{ b }}{% endmacro %}{{ m(4) }}",
    "{% macro m(a=1, b) %}{% endmacro %}",
    "{% macro m() %}  x\n{% endmacro %}{{ m()|trim }}{{ m() ~ 'y' }}",
    "{% macro outer() %}<{{ caller() }}>{% endmacro %}{% call outer() %}in {{ n }}{% endcall %}",
    "{% macro outer() %}{% for x in list %}{{ caller(x) }}{% endfor %}{% endmacro %}{% call(y) outer() %}({{ y }}){% endcall %}",
    "{% macro outer() %}x{% endmacro %}{% call outer() %}in{% endcall %}",
    "{% macro outer() %}{{ caller() }}{% endmacro %}{{ outer() }}",
    "{% call 5 %}{% endcall %}",
    "{{ m() }}{% macro m() %}{% endmacro %}",
    "{% macro m() %}{% break %}{% endmacro %}{% for x in list %}{{ m() }}{% endfor %}",
    "{% filter upper %}a{{ name }}{% endfilter %}",
    "{% filter replace('a', 'b')|upper %}aXa{% endfilter %}",
    "{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a }}",
    "{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q }}",
    "{% with n = 1, b = n %}{{ b }}{% endwith %}",
    "{% generation %}hello {{ name }}\n{% endgeneration %}\nx",
    "a\n    {%- generation -%}\n hello {{ name }}\n{%- endgeneration %}\nx",
    "{% generation %}{% set g = 1 %}{% endgeneration %}{{ g }}",
    "{% print name %}{% print 1, 2 %}",
    "{% for x in range(3) %}{{ x }}{% endfor %}",
    "{% for x in (1, 2) %}{{ x }}{% endfor %}",
    "{% for x in 1, 2 %}{{ x }}{% endfor %}",
    "{% for x in list|sort %}{{ x }}{% endfor %}",
    "{% for x in list|reverse %}{{ x }}{{ loop.last }}{% endfor %}",
    "{% for p in people if p.tags is defined and p.tags %}{{ p.name }}{% endfor %}",
    "{% for p in people %}{{ p['name'] }}{% if not loop.last %}, {% endif %}{% endfor %}",
    "{% if people|selectattr('nope') %}always{% endif %}",
    "{% if people|selectattr('nope')|list %}a{% else %}b{% endif %}",
    "{% if yes: %}a{% endif %}",
    "{{ name\n|upper\n}}\nx",
    "{{ 'a\nb' }}",
    "{%- set x = 1 -%}\n\n {{ x }}",
    "a{% if yes %}\n\nb{% endif %}",
    "\t{% if yes %}b{% endif %}\t",
    "a {%- if yes %} b {%- endif %} c",
    "{% if yes %}a{% endif %}\n\n\nb",
    "{{ name }}{# c #}\n{{ name }}",
    "{{- ' a ' -}}",
    "{{ x = 1 }}",
    "{{ }}",
    "{% for %}{% endfor %}",
    "{% for x list %}{% endfor %}",
    "{% for x in %}{% endfor %}",
    "{% if %}{% endif %}",
    "{% macro %}{% endmacro %}",
    "{% macro m %}{% endmacro %}",
    "{{ '\u4e2d' }}{{ name }}\u00e9",
    "}} %} #} {",
    "{ {{ n }} }",
    "{{{ n }}}",
    "{{ [1,2][0]}}",
    "{% set t = 'x' %}{% macro a() %}{{ t }}{% endmacro %}{% set t = 'y' %}{{ a() }}",
    "{{ raise_exception('bad ' ~ name) }}",
    "{% if no %}{{ raise_exception('bad') }}{% endif %}ok",
    "{% for m in people %}{% if (m.name == 'ann') != (loop.index0 % 2 == 0) %}{{ raise_exception('order') }}{% endif %}{% endfor %}ok",
    # What a template may meet anywhere: nothing of anything false, generators that are used up, markup.
    "{% for x in [none, '', 0, false, nope, [], {}] %}{{ x|map('upper')|list }}{{ x|select|list }}{{ x|reject('odd')|list }}{{ x|selectattr('a')|list }}{{ x|rejectattr('a', 'eq', 1)|list }}{{ x|map(attribute='a')|list }}{% endfor %}",
    "{{ none|map|list }}{{ nope|selectattr|list }}",
    "{{ 1|map('upper')|list }}",
    "{% set g = list|select('odd') %}{{ g|list }}{{ g|list }}{{ 'yes' if g }}",
    "{% set g = words|map('upper') %}{{ g|first }}{{ g|first }}{{ g|list }}{{ g|first }}",
    "{% set g = list|select %}{{ 1 in g }}{{ g|list }}",
    "{{ [1, 'a', none]|map('abs')|first }}",
    "{{ [1, 'a', none]|map('abs')|list }}",
    "{{ 5|items is iterable }}",
    "{{ 5|items|list }}",
    "{{ (words|reverse)|list }}{{ (words|select|reverse)|list }}{{ words|select|length }}",
    "{% for g in people|groupby('age', default=0) %}{{ g.grouper }}:{{ g.list|map(attribute='name')|join }} {% endfor %}",
    "{{ people|groupby('age')|first }}",
    "{{ people|sort(attribute='nope')|map(attribute='name')|list }}{{ people|sort(attribute='age,name')|map(attribute='age')|list }}",
    "{{ d.keys() }}{{ d.values() }}{{ {'a': 1}.items() }}{{ range(3) }}{{ range(0, 9, 2)[1:3] }}{{ range(5)[1] }}",
    "{{ d.keys()[0] is defined }}{{ d.items() is sequence }}{{ d.keys()|length }}{{ {'a': 1}.keys() == {'a': 2}.keys() }}",
    "{{ d.keys()|tojson }}",
    "{{ range(3)|tojson }}",
    "{{ '<a>'|safe + '<b>' }}{{ '<a>' + '<b>'|safe }}{{ '<a>'|e + '<b>' }}{{ '<a>'|safe ~ '<b>' }}{{ ['<a>'|safe] }}",
    "{{ '%s'|safe % '<b>' }}{{ '{}'|safe|string }}{{ ('{}'|safe).format('<b>') }}{{ (','|safe).join(['<', '>'|safe]) }}",
    "{{ ('<a>'|safe).replace('a', '<') }}{{ ('<a>'|safe)[0] + '<' }}{{ '<a>'|safe|upper + '&' }}{{ '<a>'|safe|list }}{{ '<a>' is escaped }}{{ '<a>'|e is escaped }}",
    "{{ '<a> &amp; <b>x</b>'|striptags }}{{ 'a b/ü?'|urlencode }}{{ {'a b': '1&2'}|urlencode }}{{ {'a': '<', 'b': none, 'c': 1}|xmlattr }}",
    # Formats.
    "{{ '{:>5}|{:<5}|{:^5}|{:*^7}'.format('a', 'b', 'c', 'd') }}{{ '{0} {1} {0}'.format(1, 2) }}{{ '{a.b} {a[b]}'.format(a={'b': 3}) }}",
    "{{ '{:05d} {:+} {: } {:,} {:x} {:#b} {:c}'.format(42, 1, 2, 1234567, 255, 5, 65) }}",
    "{{ '{:.2f} {:8.3e} {:g} {:%} {:,.1f} {:.3}'.format(3.14159, 12345.678, 1e10, 0.25, 1234.5, 2.0) }}",
    "{{ '{!r} {!s:>4} {:{w}}'.format('x', 'y', 'z', w=3) }}{{ '{{}}'.format() }}",
    "{{ '{}'.format() }}",
    "{{ '{} {0}'.format(1, 2) }}",
    "{{ '%(a)s %(b)05.1f' % {'a': 1, 'b': 2.25} }}{{ '%-5s|%5s|%+d|%x|%o|%e|%g|%c|%%|%r' % ('a', 'b', 3, 255, 8, 1234.5, 1e-5, 'c', 'd') }}",
    "{{ '%s and %s'|format('a', 1) }}{{ '%(x)s'|format(x=2) }}{{ '%*d' % (4, 7) }}",
    "{{ 'x'.center(6, '-') }}{{ '-7'.zfill(4) }}{{ 'a\tb'.expandtabs(4) }}{{ 'aBc'.swapcase() }}{{ 'Straße'.casefold() }}{{ 'ab'.isascii() }}{{ 'a1'.isidentifier() }}{{ 'Ab Cd'.istitle() }}",
    "{{ 'a\x0bb\x1cc\u2028d\r\ne'.splitlines() }}{{ 'abcabc'.count('b', 2) }}{{ [1, 2, 1].index(1, 1) }}",
    "{{ 2.5|round }}{{ 3.5|round }}{{ 1234|round(-2) }}{{ 1250|round(-2) }}{{ true|round }}{{ 2.675|round(2) }}{{ 7|round(1, 'ceil') }}",
    "{{ '0x1f'|int(base=16) }}{{ '0b11'|int(base=0) }}{{ 'zz'|int(7) }}{{ '3.9'|int }}{{ none|int }}{{ [1]|float(1.5) }}",
    "{{ nope|int }}",
    "{{ nope|float }}",
    "{{ 'a b c d'|truncate(5) }}{{ 'abcdefghijklmn'|truncate(5, true) }}{{ 'foo bar baz qux'|truncate(9, false, '~', 0) }}{{ 1234567|filesizeformat }}{{ 2048|filesizeformat(true) }}",
    "{{ [1, 2, 3, 4, 5]|slice(3)|list }}{{ [1, 2, 3]|slice(2, 'x')|list }}{{ [1, 2, 3]|batch(2, 'x')|list }}",
    # Statements.
    "{% for x in [1, [2, [3]]] recursive %}{% if x is iterable %}<{{ loop(x) }}>{% else %}{{ x }}@{{ loop.depth }}{% endif %}{% endfor %}",
    "{% for x in [1] %}{{ loop([2]) }}{% endfor %}",
    "{% for x in list %}{% continue %}{% else %}none{% endfor %}{% for x in list %}{% break %}{% else %}none{% endfor %}{% for x in list %}{% else %}none{% endfor %}",
    "{% macro m(a, b=2, c=3) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(*[7, 8]) }}{{ m(**{'a': 1, 'c': 9}) }}{{ m(1, *[2], **{'c': 4}) }}",
    "{% macro m(a) %}{% endmacro %}{{ m(1, **{'a': 2}) }}",
    "{{ dict([('a', 1), ('b', 2)], c=3) }}{{ dict(d, **{'x': 1})['x'] }}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{% set j = joiner('; ') %}{% for x in list %}{{ j() }}{{ x }}{% endfor %}",
    "{% block a %}x{{ name }}{% endblock %}{% block b scoped %}{% endblock b %}",
    "{% block a %}{% endblock %}{% block a %}{% endblock %}",
    "{% autoescape false %}{{ '<' }}{% endautoescape %}",
    "{% if no %}{% include 'x' %}{% import 'y' as z %}{% from 'q' import r %}{{ 1|nope }}{{ 1 is nope }}{% endif %}ok",
    "{{ 1 if yes else 2|nope }}{% if no and 1 is nope %}{% endif %}",
    "{% if yes %}{{ 1|nope }}{% endif %}",
    "{% macro m(a) %}{% endmacro %}{{ m }}{{ m.name }}{{ m.catch_kwargs }}{{ namespace(a=1) }}",
    "{% set ns = namespace() %}{% set ns.me = ns %}{{ ns.me }}",
    "{% set größe = 5 %}{{ größe + 1 }}",
    "{{ [1].append(2) }}",
    "{{ [1].append is defined }}{{ {}.update is defined }}{{ [1].index is defined }}",
    "{{ 'x' is callable }}{{ nope is callable }}{{ range is callable }}{{ 3 is divisibleby(1.5) }}{{ 2.0 is even }}{{ 'upper' is filter }}{{ 'odd' is test }}{{ 'x' is filter }}",
    "{{ [1] in {} }}",
    "{{ nothing[1:] }}",
]


def render(template):
    import copy

    try:
        return {"expected": _compile_jinja_template(template).render(**copy.deepcopy(VARIABLES))}
    except Exception as e:  # whatever it is, ours must fail too
        return {"error": f"{type(e).__name__}: {e}"}


def main():
    cases = [{"template": t, **render(t)} for t in ["{{ " + e + " }}" for e in EXPRESSIONS] + TEMPLATES]
    out = {"variables": VARIABLES, "cases": cases}
    path = pathlib.Path(__file__).with_name("jinja.json")
    path.write_text(json.dumps(out, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(len(cases), "cases,", sum("error" in c for c in cases), "of them errors")


if __name__ == "__main__":
    main()
