#!/usr/bin/env python3
"""Chat templates and conversations, rendered by jinja2 in the environment that transformers uses.

Writes templates.json, a list of
    {"name", "template", "cases": [{"messages", "add_generation_prompt", "bos_token", "eos_token",
                                    "tools"?, "extra"?, "now"?, "expected" | "error"}]}
`tools` absent means None was given. `extra` holds further top-level variables (enable_thinking and the like).
`now` (ISO 8601, local) is what strftime_now() saw. `error` is the message of raise_exception, or, where jinja2
itself refused (a syntax error, an undefined value used, a wrong type), a string that starts with "jinja2: " and names its error
class: there an implementation must fail too, in words of its own.

The templates are ours, written with the constructs that published models' templates are made of; only
"smollm2" is a real one, read from the GGUF file.
"""

import datetime
import json
import pathlib
import re
import sys

import jinja2
import jinja2.ext
import jinja2.sandbox

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "tools/train"))
from coterie_experts.product import binaries  # noqa: E402
from coterie_experts.training import base_model  # noqa: E402

NOW = datetime.datetime(2026, 2, 3, 4, 5, 6)

TEMPLATES = {
    "chatml": """{% for turn in messages %}{{ '<|im_start|>' ~ turn.role ~ '\\n' ~ turn.content ~ '<|im_end|>' ~ '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}""",

    # Turns must alternate; the system text is folded into the first user turn.
    "llama2-like": """{%- if messages[0]['role'] == 'system' -%}
    {%- set preface = '<<SYS>>\\n' + messages[0]['content'] | trim + '\\n<</SYS>>\\n\\n' -%}
    {%- set turns = messages[1:] -%}
{%- else -%}
    {%- set preface = '' -%}
    {%- set turns = messages -%}
{%- endif -%}
{%- for turn in turns -%}
    {%- if (turn['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{- raise_exception('Roles must go user, assistant, user, assistant; turn ' ~ loop.index ~ ' is ' ~ turn['role']) -}}
    {%- endif -%}
    {%- set text = preface + turn['content'] if loop.first else turn['content'] -%}
    {%- if turn['role'] == 'user' -%}
        {{- bos_token + '[INST] ' + text.strip() + ' [/INST]' -}}
    {%- elif turn['role'] == 'assistant' -%}
        {{- ' ' + text.strip() + ' ' + eos_token -}}
    {%- endif -%}
{%- endfor -%}
""",

    # Headers around roles, a date, tools in the system turn or in the first user turn.
    "llama3-like": """{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_text = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_text = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" }}
{%- if tools is not none and not tools_in_user_message %}
    {{- "You may call these functions. Answer a call as {\\"name\\": ..., \\"parameters\\": ...}.\\n\\n" }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_text }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls | length == 1 %}
            {{- raise_exception("Only one call a turn!") }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
        {{- '{"name": "' + call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- call.arguments | tojson }}
        {{- "}<|eot_id|>" }}
    {%- else %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable and message.content is not string %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",

    "mistral-like": """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined or tools is none %}
    {%- set tools = [] %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace(index=0) %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or message.role == "tool_results" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, conversation roles must alternate user/assistant/user/assistant/...") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val | tojson }}
                    {%- endif %}
                    {%- if not loop.last %}
                        {{- ", " }}
                    {%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}
                    {{- ", " }}
                {%- else %}
                    {{- "]" }}
                {%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function | tojson %}
            {{- out[:-1] }}
            {%- if not tool_call.id is defined or tool_call.id | length != 9 %}
                {{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}
            {%- endif %}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {%- if not loop.last %}
                {{- ", " }}
            {%- else %}
                {{- "]" + eos_token }}
            {%- endif %}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"] | trim + eos_token }}
    {%- elif message["role"] == "tool" %}
        {{- '[TOOL_RESULTS] {"content": ' + message.content | string + '}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported, with the exception of an initial optional system message!") }}
    {%- endif %}
{%- endfor %}
""",

    "qwen2-like": """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\\n' + message['content']}}{% if (loop.last and add_generation_prompt) or not loop.last %}{{ '<|im_end|>' + '\\n'}}{% endif %}{% endfor %}
{% if add_generation_prompt and messages[-1]['role'] != 'assistant' %}{{ '<|im_start|>assistant\\n' }}{% endif %}""",

    # Tool replies in a row share one user turn: needs loop.first and the neighbours' roles.
    "qwen25-like": """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content }}
    {%- else %}
        {{- 'You are a careful assistant.' }}
    {%- endif %}
    {{- "\\n\\n# Tools\\n\\nFunction signatures stand in <tools></tools>:\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools>\\n\\nAnswer a call in <tool_call></tool_call>:\\n<tool_call>\\n{\\"name\\": <function-name>, \\"arguments\\": <args-json-object>}\\n</tool_call><|im_end|>\\n" }}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- message.content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""",

    # Looks backwards for the last question, keeps reasoning only after it.
    "qwen3-like": """{%- set ns = namespace(searching=true, last_query=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.searching and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.searching = false %}
        {%- set ns.last_query = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if message.role == "assistant" %}
        {%- set reasoning = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query and (loop.last or (not loop.last and reasoning)) %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
""",

    # Lines without '-': relies on trim_blocks and lstrip_blocks.
    "zephyr-like": """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>
'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}""",

    "tinyllama-like": """{% for message in messages %}
    {% if message.role in ['user', 'system', 'assistant'] %}
        {{ '<|' + message.role + '|>' + '\\n' + message.content + eos_token }}
    {% else %}
        {{ raise_exception("no such role: " + message.role) }}
    {% endif %}
    {% if loop.last and add_generation_prompt %}
        {{- '<|assistant|>\\n' }}
    {% endif %}
{% endfor %}
""",

    "gemma-like": """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}""",

    # Macros, set blocks, filters in a row, content in parts.
    "macro-parts": """{#- content may be text or a list of parts -#}
{%- macro show(content, shout=false) -%}
    {%- if content is string -%}
        {{- content | upper if shout else content -}}
    {%- else -%}
        {%- for part in content -%}
            {%- if part.type == 'text' -%}
                {{- part.text -}}
            {%- elif part.type in ('image', 'image_url') -%}
                <image {{ loop.index }}>
            {%- else -%}
                {{- raise_exception("unknown part " ~ part.type) -}}
            {%- endif -%}
            {%- if not loop.last %}{{ ' ' }}{% endif -%}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro -%}
{%- set header %}<head n={{ messages | length }} roles={{ messages | map(attribute='role') | unique | join(',') }}>{% endset -%}
{{ header | trim }}
{% for message in messages -%}
{{ message.role | capitalize }}: {{ show(message.content, shout=message.role == 'system') }}
{% else -%}
nothing said
{% endfor -%}
{{ show(shout=true, content='end') if add_generation_prompt }}""",

    # Loop controls, loop variables, slices, a namespace that outlives the loop.
    "loops": """{% set ns = namespace(total=0, last=none) %}
{% for message in messages %}
{% if message.role == 'skip' %}{% continue %}{% endif %}
{% if message.role == 'stop' %}{% break %}{% endif %}
{% set ns.total = ns.total + message.content | length %}
{% set ns.last = message %}
[{{ loop.index }}/{{ loop.length }}{{ '' if loop.last else ';' }} left={{ loop.revindex0 }} {{ loop.cycle('odd', 'even') }}{% if loop.previtem is defined %} after {{ loop.previtem.role }}{% endif %}] {{ message.content[:5] }}|{{ message.content[-3:] }}|{{ message.content[::-1] }}
{% endfor %}
{{ ns.total }} {{ ns.total // 7 }} {{ ns.total % 7 }} {{ -ns.total }}
{% if ns.last and ns.last.role != 'user' and (ns.last.content | length) > 2 %}long{% elif ns.last %}short{% else %}none{% endif %}

{{ messages | map(attribute='content') | map('upper') | list }} {{ messages | rejectattr('role', 'equalto', 'user') | map(attribute='role') | list }} {{ messages | selectattr('name', 'defined') | list | length }}
{{ messages[0]['nope'] is defined }} {{ messages[0].nope | default('-') }} {{ messages[0].content | indent(2) }} {{ messages is sequence }}
{% for m in messages if m.role == 'user' %}{{ loop.index }}{{ m.role }} {% else %}no user{% endfor %}

""",

    "strftime": """{{ bos_token }}{% set today = strftime_now('%Y-%m-%d') %}Knowledge until {{ cutoff | default('2023-10') }}; today {{ today }} ({{ strftime_now('%d %B %Y, %A, %H:%M:%S %j %y %I %p %b %a') }}).
{% for m in messages %}
<{{ m['role'] }}>{{ m['content'] }}</{{ m['role'] }}>
{% endfor %}
{%+ if add_generation_prompt %}  <assistant>{% endif %}

""",

    "generation-marks": """{%- for m in messages -%}
    {%- if m.role == 'assistant' -%}
        {{- '<a>' -}}{%- generation -%}{{ m.content }}{{ eos_token }}{%- endgeneration -%}
    {%- else -%}
        {{- '<' ~ m.role[0] ~ '>' ~ m.content -}}
    {%- endif -%}
{%- endfor -%}
{{- '<a>' if add_generation_prompt else '' -}}""",
}

# Each becomes a template of its own, so that what an implementation lacks has a name.
EXPRESSIONS = r"""
{{ 7 // 2 }} {{ 7 % 3 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 3 / 4 }} {{ 8 / 4 }} {{ 2 ** 5 }} {{ 1.0 }} {{ 1e3 }} {{ 1 + 2 * 3 - 4 }} {{ (1 + 2) * 3 }}
{{ 1 < 2 < 3 }} {{ 3 > 2 > 2 }} {{ 'a' in 'cat' and not 'z' in 'cat' }} {{ 3 not in [1, 2] }} {{ 1 == 1.0 }} {{ 'a' < 'b' }} {{ 'k' in {'k': 1} }}
{{ none }} {{ true }} {{ false }} {{ none is none }} {{ [1, 'two', none, 3.5, true] }} {{ {'k': 'v', 'n': 1} }} {{ (1, 2) }} {{ (1,) }} {{ [] }} {{ {} }} {{ 'it\'s' }} {{ ["it's", 'a"b'] }}
{{ range(5) | list }} {{ range(2, 9, 3) | join('-') }} {{ range(3, 0, -1) | list }}
{{ [3, 1, 2] | sort }} {{ ['b', 'A'] | sort }} {{ [3, 1, 2] | sort(reverse=true) }} {{ [1, 2, 3] | sum }} {{ [3, 1] | max }} {{ [3, 1] | min }}
{{ [1, 2, 3] | first }} {{ 'xyz' | last }} {{ 'abc' | reverse }} {{ [1, 2] | reverse | list }} {{ [1, 1, 2] | unique | list }} {{ 'abc' | list }}
{{ 'a,b' | replace(',', ';') }} {{ '  pad ' | trim }} {{ '--x--'.strip('-') }} {{ '--x--'.lstrip('-') }} {{ '--x--'.rstrip('-') }} {{ 'Title case' | title }} {{ 'tEST' | capitalize }} {{ 'tEST'.title() }} {{ 'one two' | wordcount }} {{ 'X' | lower }}
{{ 'a b  c'.split() }} {{ 'k=v=w'.split('=', 1) }} {{ 'k=v=w'.split('=')[-1] }} {{ 'a\nb'.splitlines() }} {{ 'k=v=w'.rsplit('=', 1) }} {{ ', '.join(['a', 'b']) }}
{{ 'Xy'.lower() }} {{ 'Xy'.upper() }} {{ 'abc'.replace('b', 'B') }} {{ 'abcabc'.find('c') }} {{ 'abc'.startswith('ab') }} {{ 'abc'.endswith('bc') }} {{ 'abc'.startswith(('x', 'a')) }} {{ 'aXbX'.count('X') }} {{ '12'.isdigit() }} {{ 'abc'.index('c') }}
{{ 'hello'[1] }} {{ 'hello'[-1] }} {{ 'hello'[1:3] }} {{ 'hello'[::2] }} {{ 'hello'[3:0:-1] }} {{ [1, 2, 3][1:] }} {{ [1, 2, 3][::-1] }} {{ 'größe'[2:4] }} {{ 'größe' | length }} {{ '你好🎉'[1:] }} {{ 'hello'[9:] }}
{{ undefined_thing | default('dflt') }} {{ '' | default('empty', true) }} {{ '' | default('kept') }} {{ undefined_thing is undefined }} {{ undefined_thing is defined }}[{{ undefined_thing }}] {{ 'yes' if undefined_thing else 'no' }} {{ undefined_thing | length }}
{{ 4 is even }} {{ 2 is odd }} {{ 4 is divisibleby 2 }} {{ 'x' is string }} {{ 5 is number }} {{ 5 is integer }} {{ 5.0 is float }} {{ true is boolean }} {{ {} is mapping }} {{ [] is sequence }} {{ 'ab' is iterable }} {{ 5 is iterable }} {{ 'abc' is ne 'abd' }} {{ 1 is in [1] }} {{ 'a' is eq 'a' }} {{ 'abc' is lower }} {{ none is not none }} {{ true is true }} {{ 1 is true }} {{ raise_exception is callable }}
{{ {'b': 1, 'a': [1, 2, {'c': none}]} | tojson }} {{ 'quote " and \ and é and <b> & \u2028 \x01' | tojson }} {{ [] | tojson }} {{ {} | tojson }} {{ 1.0 | tojson }} {{ 1e20 | tojson }} {{ 0.1 | tojson }} {{ true | tojson }}
{{ {'x': 'é'} | tojson(ensure_ascii=true) }} {{ {'z': 1, 'y': [2, {}, []]} | tojson(indent=2, sort_keys=true) }} {{ [1, 2] | tojson(indent=4) }} {{ {'a': [1, 2]} | tojson(separators=(',', ':')) }}
{{ '%s has %d' | format('it', 3) }} {{ 'a' ~ 1 ~ none ~ 2.5 ~ true }} {{ 'ab' * 2 }} {{ [1] + [2] }} {{ 'a' + 'b' 'c' }}
{{ (3.7) | int }} {{ '12' | int + 1 }} {{ 'x' | int(7) }} {{ 3 | float }} {{ 3.14159 | round(2) }} {{ 2.5 | round }} {{ -5 | abs }} {{ 7 | string ~ '!' }} {{ 3.0 | string }} {{ 1e16 }} {{ 123456789.25 }} {{ 1e-7 }}
{% for key, value in {'one': 1, 'two': 2}.items() %}{{ key }}={{ value }}{{ ',' if not loop.last }}{% endfor %} {{ {'one': 1}.get('two', 'none') }} {{ {'one': 1}.get('two') }} {{ {'b': 1, 'a': 2} | dictsort }} {{ {'b': 1, 'a': 2}.keys() | list }} {{ {'b': 1}.values() | list }} {{ {'b': 1} | items | list }} {{ {'b': 1}['b'] }} {{ {'b': 1}.b }}
{% raw %}{{ not rendered }} {% not this %}{% endraw %} {{ "it's" }} {{ 'say "hi"' }} {{ 'tab\tnew\nline' }} {{ 'A\u00e9' }} {{ 'a\b' }}
{% with a = 1, b = 2 %}{{ a + b }}{% endwith %} {% filter upper %}shouted{% endfilter %} {% set x, y = 1, 2 %}{{ x }}{{ y }} {% set block %} in {{ x }} {% endset %}[{{ block }}] {% set up | upper %}filtered{% endset %}{{ up }}
{{ namespace(a=1).a }} {{ dict(a=1, b='x') }} {{ [[1, 2], [3]] | sum(start=[]) }} {{ ['x', 'y', 'z'] | batch(2) | list }} {{ 'x' if false }}. {{ 'x' if false else 'y' if true else 'z' }}
{% macro m(a, b='B', c=none) %}<{{ a }}{{ b }}{{ c }}>{% endmacro %}{{ m(1) }}{{ m(1, c=3) }}{{ m(b=2, a=0) }}{{ m('x', 'y', 'z') }}
{% for a in [1, 2] %}{% for b in [3, 4] %}{{ a }}{{ b }}{{ loop.index }}{{ loop.last }} {% endfor %}{{ loop.index }};{% endfor %}
{% for x in [] %}never{% else %}empty{% endfor %} {% for x in [1, 2, 3, 4] %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 4 %}{% break %}{% endif %}{{ x }}{% endfor %} {% for x in [1,2,3] if x is odd %}{{ x }}/{{ loop.length }} {% endfor %} {% for c in 'hé' %}{{ c }}.{% endfor %} {% for k in {'p': 1, 'q': 2} %}{{ k }}{% endfor %}
{% set v = 1 %}{% for i in [1, 2] %}{% set v = v + i %}{{ v }}{% endfor %}{{ v }} {% set n = namespace(v=1) %}{% for i in [1, 2] %}{% set n.v = n.v + i %}{% endfor %}{{ n.v }} {% if true %}{% set w = 'leaks' %}{% endif %}{{ w }}
{{ [{'a': 1}, {'a': 2}] | map(attribute='a') | sum }} {{ [{'a': {'b': 5}}] | map(attribute='a.b') | list }} {{ ['a', 'b'] | map('upper') | join(', ') }} {{ [0, 1, 2] | select | list }} {{ [0, 1, 2] | reject('odd') | list }} {{ [{'t': 'x', 'v': 1}, {'t': 'y', 'v': 2}] | selectattr('t', 'in', ['y']) | map(attribute='v') | first }}
{{ {'a': 1} == {'a': 1} }} {{ [1] == [1] }} {{ not [] }} {{ not 0 }} {{ 'x' and 'y' }} {{ '' or 'z' }} {{ none or false }} {{ 0 and 1 }}
a {%- if true %} b {%- endif -%} c {{- ' d ' -}} e {#- f -#} g {%+ if true %} h {% endif +%} i
{{ 'multi
line' }} {{ 'nbsp\xa0' | trim }}| {{ '<&>' | e }} {{ '<&>' | escape }} {{ '<b>' | safe }}
{{ [1, 2] | tojson | length }} {{ 'abc' | count }} {{ 1 | string | int }} {{ [none, 1] | tojson }}
{{ nope.x }}
{{ 'a' + 1 }}
{{ nope() }}
{{ [1][5].x }}
{{ 1 | nofilter }}
{{ [1, 2].append(3) }}
{{ ''.__class__ }}
{{ raise_exception('stop: ' ~ 1) }}
{{ 1 // 0 }}
{% if %}x{% endif %}
{% for x in [1] %}unclosed
{{ 'unterminated }}
"""

TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "The weather \"now\" in a town",
                                      "parameters": {"type": "object", "properties": {"town": {"type": "string", "description": "e.g. Zürich"}}, "required": ["town"]}}},
    {"type": "function", "function": {"name": "add", "description": "a + b", "return": {"type": "number"},
                                      "parameters": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}}}},
]



def _turn(role):
    return lambda text, **more: {"role": role, "content": text, **more}


USER, BOT, SYSTEM, TOOL = _turn("user"), _turn("assistant"), _turn("system"), _turn("tool")
CALL = {"role": "assistant", "content": "", "tool_calls": [
    {"id": "abcdefghi", "type": "function", "function": {"name": "weather", "arguments": {"town": "Zürich", "days": 2}}}]}
TWO_CALLS = {"role": "assistant", "content": "Let me see.", "tool_calls": [
    {"id": "call00001", "type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": 2.5}}},
    {"id": "call00002", "type": "function", "function": {"name": "add", "arguments": {"a": -1, "b": 1e20}}}]}

CONVERSATIONS = [
    [USER("Hello")],
    [SYSTEM("Be brief."), USER("What is a lock?")],
    [USER("  spaces around\n"), BOT(" and here \n"), USER("again")],
    [SYSTEM("  You are \"quoted\".\n\n"), USER("Größe? 你好 🎉"), BOT("42"), USER("Why?"), BOT("Because.\n")],
    [USER("first"), USER("second")],
    [BOT("I start")],
    [USER("<think>x</think>"), BOT("<think>\nlong thought\n</think>\n\nShort answer"), USER("ok"), BOT("<think>\nmore\n</think>\n\nDone")],
    [USER("")],
]
WITH_TOOLS = [
    [USER("Weather?")],
    [SYSTEM("Use tools."), USER("Weather in Zürich?"), CALL, TOOL('{"c": 21}'), BOT("21 degrees.")],
    [USER("Add"), TWO_CALLS, TOOL("3.5"), TOOL("1e20"), USER("Thanks")],
]
PARTS = [
    [SYSTEM("quiet please"), USER([{"type": "text", "text": "look"}, {"type": "image"}, {"type": "text", "text": "here"}])],
    [USER([{"type": "audio"}])],
    [],
]
CONTROLS = [
    [USER("hello world"), {"role": "skip", "content": "not seen"}, BOT("fine, thanks", name="bot"), {"role": "stop", "content": "x"}, USER("never")],
    [USER("a\nb")],
]
OTHER_ROLE = [[{"role": "critic", "content": "no"}], [USER("hi"), {"role": "tool", "content": "r"}]]


def environment():
    class Generation(jinja2.ext.Extension):
        """`{% generation %}` marks what the assistant said; rendering is not changed by it."""
        tags = {"generation"}

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_keep"), [], [], body).set_lineno(line)

        def _keep(self, caller):
            return caller()

    env = base_model.chat_environment()
    env.add_extension(Generation)
    env.filters["tojson"] = lambda x, ensure_ascii=False, indent=None, separators=None, sort_keys=False: json.dumps(
        x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    env.globals["strftime_now"] = lambda pattern: NOW.strftime(pattern)
    return env


def render(env, template: str, case: dict) -> dict:
    variables = {"messages": case["messages"], "tools": case.get("tools"), "documents": None,
                 "add_generation_prompt": case["add_generation_prompt"],
                 "bos_token": case["bos_token"], "eos_token": case["eos_token"], **case.get("extra", {})}
    try:
        return case | {"expected": env.from_string(template).render(**variables)}
    except jinja2.exceptions.TemplateError as error:
        ours = type(error) is jinja2.exceptions.TemplateError
        return case | {"error": error.message if ours else f"jinja2: {type(error).__name__}"}
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
        return case | {"error": f"jinja2: {type(error).__name__}"}


def cases_of(name: str) -> list[dict]:
    conversations = [(c, None) for c in CONVERSATIONS]
    if name in ("llama3-like", "mistral-like", "qwen25-like"):
        conversations += [(c, TOOLS) for c in WITH_TOOLS] + [(WITH_TOOLS[1], None)]
    if name in ("macro-parts", "qwen3-like"):
        conversations += [(c, None) for c in PARTS]
    if name in ("loops", "qwen2-like"):
        conversations += [(c, None) for c in CONTROLS]
    if name in ("tinyllama-like", "mistral-like", "zephyr-like"):
        conversations += [(c, None) for c in OTHER_ROLE]
    bos, eos = {"llama2-like": ("<s>", "</s>"), "mistral-like": ("<s>", "</s>"), "zephyr-like": ("<s>", "</s>"),
                "tinyllama-like": ("<s>", "</s>"), "gemma-like": ("<bos>", "<eos>"),
                "llama3-like": ("<|begin_of_text|>", "<|eot_id|>")}.get(name, ("<|im_start|>", "<|im_end|>"))
    cases = []
    for messages, tools in conversations:
        for prompt in (True, False):
            case = {"messages": messages, "add_generation_prompt": prompt, "bos_token": bos, "eos_token": eos}
            if tools is not None:
                case["tools"] = tools
            if "strftime_now" in TEMPLATES.get(name, ""):
                case["now"] = NOW.isoformat()
            cases.append(case)
    if name == "qwen3-like":
        cases.append(cases[0] | {"extra": {"enable_thinking": False}})
        cases.append(cases[0] | {"extra": {"enable_thinking": True}})
    if name == "llama3-like":
        cases.append(cases[0] | {"extra": {"date_string": "1 Jan 2000", "custom_tools": TOOLS[:1], "tools_in_user_message": True}})
    if name == "strftime":
        cases.append(cases[0] | {"extra": {"cutoff": "yesterday"}})
    return cases


def main() -> None:
    env = environment()
    smollm = base_model._gguf_fields(binaries.find_base())["tokenizer.chat_template"]
    TEMPLATES["smollm2"] = smollm
    golden = []
    for name, template in TEMPLATES.items():
        golden.append({"name": name, "template": template, "cases": [render(env, template, c) for c in cases_of(name)]})
    plain = {"messages": CONVERSATIONS[0], "add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>"}
    for number, template in enumerate(re.split(r"\n(?=\{|a )", EXPRESSIONS.strip()), start=1):
        golden.append({"name": f"expression-{number:02}", "template": template, "cases": [render(env, template, plain)]})
    path = HERE / "templates.json"
    path.write_text(json.dumps(golden, ensure_ascii=False, indent=None, separators=(",", ":")).replace('},{"messages"', '},\n{"messages"')
                    .replace(',{"name":', ',\n{"name":') + "\n", encoding="utf-8")
    n = sum(len(g["cases"]) for g in golden)
    errors = [(g["name"], c["error"]) for g in golden for c in g["cases"] if "error" in c]
    print(f"{path}: {len(golden)} templates, {n} cases, {len(errors)} of them errors")
    for name, error in sorted(set(errors)):
        print(f"  {name}: {error}")


if __name__ == "__main__":
    main()
