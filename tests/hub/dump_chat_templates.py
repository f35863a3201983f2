#!/usr/bin/env python3
"""Writes chat_templates.json: what Jinja2, set up as transformers does it, makes of templates. Needs: pip install jinja2

Left out, as minijinja lacks it or is more lenient, and no chat template that was looked at needs it: the % of strings,
center, cycler, filesizeformat, joiner, truncate, urlencode, wordcount, xmlattr,
int(base=16), none | int; the errors of a loop over none, of
'a' < 1 and of a default-less 'a' | float; dict.copy, list.index.
Two kinds: short ones, for what the templates of real models use; and whole ones in the manner of the
families (ChatML with tools, Llama 3, Mistral, Gemma 4, DeepSeek, MiniMax), each with every conversation below.
"""
import json
import pathlib

import jinja2
import jinja2.ext
import jinja2.nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("body"), [], [], body).set_lineno(line)

    def body(self, caller):
        return caller()


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                            extensions=[Generation, jinja2.ext.loopcontrols])
environment.filters["tojson"] = tojson
environment.globals["raise_exception"] = raise_exception
environment.globals["strftime_now"] = lambda form: "26 Jul 2024"  # the test takes this text for today's

SHORT = r'''
{{ messages[0].content }}|{{ messages[0]['content'] }}|{{ messages[-1].role }}
{{ messages | length }}{{ messages[1:] | length }}{{ messages[:-1] | length }}{{ messages[::-1][0].role }}
{{ nothing }}[{{ messages[0].nothing }}]{{ nothing is defined }}{{ nothing is undefined }}{{ nothing | default('d') }}
{{ none }}|{{ true }}|{{ 1 == 1.0 }}|{{ 7 // 2 }}|{{ 7 / 2 }}|{{ 7 % 3 }}|{{ 2 ** 3 }}|{{ -7 // 2 }}|{{ -7 % 3 }}
{{ '' | default('d') }}|{{ '' | default('d', true) }}|{{ none | default('d') }}|{{ false or 'x' }}|{{ 0 and 1 }}
{{ nothing is none }}|{{ none is none }}|{{ nothing == none }}|{{ not nothing }}|{{ nothing or 'x' }}
{% for x in nothing %}a{% else %}empty{% endfor %}|{{ nothing | length }}|{{ nothing | list }}
{{ 'a' in nothing }}
{{ nothing.at }}
{{ nothing + 'a' }}
{{ nothing | upper }}|{{ nothing | trim }}|{{ nothing ~ 'a' }}
{{ 'a' 'b' }}|{{ 'a' ~ 1 ~ none ~ true ~ 1.5 }}|{{ 'a' * 3 }}|{{ [1] + [2] }}|{{ 'b' > 'a' }}
{{ 1 + 'a' }}
{{ 'a' + none }}
{{ 'a\tb\\n\'"' }}|{{ "a\u00e4\x41" }}
{{ messages[0] is mapping }}{{ messages is sequence }}{{ messages is iterable }}{{ 'a' is string }}{{ 'a' is sequence }}
{{ 1 is number }}{{ true is number }}{{ true is boolean }}{{ 1 is integer }}{{ 1.0 is float }}{{ messages[0] is sequence }}
{{ 3 is odd }}{{ 4 is even }}{{ 4 is divisibleby(2) }}{{ 'A' is upper }}{{ 'a' is in ['a'] }}{{ 1 is eq 1 }}{{ 1 is ne 2 }}
{{ tools | tojson }}
{{ tools | tojson(indent=4) }}
{{ tools | tojson(separators=(',', ':'), sort_keys=true) }}
{{ {'a': 'ä<b>&\'', 'n': 1.0, 'e': 1e300} | tojson }}{{ 'ä' | tojson(ensure_ascii=true) }}
{{ tools[0].function.parameters.properties.keys() | list }}{{ tools[0].function.parameters.properties.items() | list | length }}
{% for k, v in tools[0].function.parameters.properties.items() %}{{ k }}={{ v.type }};{% endfor %}
{% for k, v in tools[0].function.parameters.properties | dictsort %}{{ k }}={{ v.type }};{% endfor %}
{% for k, v in tools[0].function.parameters.properties | items %}{{ k }}={{ v.type }};{% endfor %}
{{ messages[0].get('role') }}{{ messages[0].get('x') }}{{ messages[0].get('x', 'y') }}{{ 'role' in messages[0] }}
{{ messages[0].update({'role': 'x'}) }}
{{ messages.append(1) }}
{{ messages | map(attribute='role') | join(', ') }}|{{ messages | map(attribute='x', default='-') | list }}
{{ messages | selectattr('role', 'equalto', 'user') | list | length }}|{{ messages | rejectattr('role', 'eq', 'user') | map(attribute='role') | list }}
{{ messages | selectattr('tool_calls', 'defined') | list | length }}|{{ [1, none, 2] | select | list }}|{{ [1, 2] | reject('odd') | list }}
{{ ['b', 'a', 'C'] | sort }}|{{ [3, 1, 2] | sort(reverse=true) }}|{{ [1, 2, 1] | unique | list }}|{{ [1, 2] | sum }}
{{ [1, 2, 3] | first }}{{ [1, 2, 3] | last }}{{ [1, 2, 3] | max }}{{ [1, 2] | min }}{{ [1, 2] | reverse | list }}{{ 'abc' | reverse }}
{{ ['a', 'b'] | join }}|{{ [1, [2]] | join(',') }}|{{ 'abc' | list }}|{{ 'a,b' | replace(',', ';') }}
{{ '  a ' | trim }}|{{ 'ab' | upper | lower | capitalize | title }}|{{ 'a' | string }}{{ 1 | string + 'x' }}
{{ '3' | int + 1 }}|{{ 'x' | int(7) }}|{{ '1.5' | float }}|{{ 3.7 | int }}|{{ 2.5 | round }}|{{ 2.567 | round(1) }}|{{ -3 | abs }}
{{ 'a\nb' | indent(2) }}|{{ 'a\nb' | indent(2, true) }}
{{ [1, 2, 3, 4, 5] | batch(2) | list }}|{{ [1, 2, 3] | slice(2) | list }}
{% for g in messages | groupby('role') %}{{ g.grouper }}{{ g.list | length }}{% endfor %}
{{ '<a>' | escape }}|{{ '<a>' | e }}|{{ '<a>' | safe }}
{{ range(3) | list }}{{ range(1, 4) | list }}{{ range(4, 0, -2) | list }}{{ dict(a=1) }}{{ dict(a=1, b=[]) | length }}
{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}{% for i in [1] %}{% set x = 3 %}{% endfor %}{{ x }}
{% set ns = namespace(a=1) %}{% for i in range(3) %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}{% set ns.b = 'n' %}{{ ns.b }}
{% set a, b = [1, 2] %}{{ a }}{{ b }}{% set c %}block {{ a }}{% endset %}{{ c }}{% set d | upper %}x{% endset %}{{ d }}
{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %}{{ i }}{% endfor %}
{% for m in messages if m.role == 'user' %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }};{% endfor %}
{% for m in messages %}{{ loop.previtem.role }}<{{ m.role }}>{{ loop.nextitem.role }}{{ loop.revindex }}{{ loop.cycle('x', 'y') }};{% endfor %}
{% for m in messages %}{% if loop.changed(m.role) %}{{ m.role }}{% endif %}{% endfor %}
{% for a in [[1, [2]], 3] recursive %}{% if a is iterable %}({{ loop(a) }}){% else %}{{ a }}@{{ loop.depth }}{% endif %}{% endfor %}
{% macro m(a, b='x', c=none) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}|{{ m(1, c=2) }}|{{ m(b=3, a=2) }}|{{ m() }}
{% macro m(x) %}[{{ caller() }}{{ x }}]{% endmacro %}{% call m(1) %}in{% endcall %}
{% macro m(x) %}{% if x > 0 %}{{ x }}{{ m(x - 1) }}{% endif %}{% endmacro %}{{ m(3) }}
{% macro m(x) -%}   a {{- x }} b   {%- endmacro %}<{{ m('-') }}>{{ m('-') | trim | upper }}{{ m('-') is string }}
a  {%- if true -%}  b  {%- endif -%}  c  {#- no -#}  d
{% if messages %}{% if messages[0].role == 'x' %}a{% elif tools %}b{% else %}c{% endif %}{% endif %}{{ 'x' if tools else 'y' }}{{ 'x' if false }}
{% raw %}{{ no }}{% endraw %}{{ '{{ no }}' }}{# {{ no }} #}
{% filter upper %}a{{ 'b' }}{% endfilter %}{% with a = 1 %}{{ a }}{% endwith %}{{ a }}
{% generation %}x{{ messages[0].role }}{% endgeneration %}
{%- generation -%} x {%- endgeneration -%} y
{{ raise_exception('Roles must alternate: ' ~ messages[0].role) }}
{{ strftime_now('%d %b %Y') }}
{{ messages[0].role.upper() }}{{ messages[0]['role'].title() }}{{ ' x '.strip() }}{{ 'a-b'.replace('-', '+') }}
{{ 'a<b>c'.split('<')[-1].split('>')[0] }}|{{ '\n\nx\n'.lstrip('\n') }}|{{ 'x\n'.rstrip('\n') }}|{{ 'xyx'.strip('x') }}
{{ 'abc'.startswith('ab') }}{{ 'abc'.endswith(('x', 'c')) }}{{ 'abc'.find('c') }}{{ 'abc'[1] }}{{ 'abc'[-2:] }}{{ 'abc'[::-1] }}
{{ ', '.join(['a', 'b']) }}|{{ '%s is %d' | format('a', 2) }}|{{ '{} {x}'.format(1, x=2) }}
{{ 'a b  c'.split() }}{{ 'a,b,c'.split(',', 1) }}{{ 'a,b,c'.rsplit(',', 1) }}{{ 'a\nb'.splitlines() }}{{ 'a=b'.partition('=')[2] }}
{{ 'abc'.isalpha() }}{{ '12'.isdigit() }}{{ 'ab'.count('a') }}{{ 'Ab'.swapcase() }}{{ 'abc'.removeprefix('a') }}{{ 'abc'.index('b') }}
{{ messages[0].__class__ }}|{{ messages.__class__.__mro__ }}
{{ ''.__class__.__mro__[1].__subclasses__() }}
{{ [1, [2, none], 'a', {'b': true}, 1.5, (1, 2)] }}
{{ {'a': {'b': [1]}}['a']['b'][0] }}{{ {'a': 1}.a }}{{ [[1, 2], [3]][0][1] }}{{ 'abc'[5:] }}[{{ [1][5] }}]
{{ 1 < 2 < 3 }}{{ not true == false }}{{ 1 in [1] and not 2 in [1] }}{{ 2 not in [1] }}{{ (1, 2) == (1, 2) }}{{ [1] == (1,) }}
{{ 10 | filesizeformat }}|{{ 'a' | xmlattr }}
{{ 'a' | no_such_filter }}
{{ 'a' is no_such_test }}
{{ no_such_function() }}
{{ [1, 2, 3] | map('string') | map('upper') | join('-') }}{{ ['a'] | map('replace', 'a', 'b') | list }}
{{ messages | tojson | length }}{{ messages[0] | items | list }}{{ messages[0] | length }}{{ messages[0] | list }}
{{ 1_000 }}{{ 0x10 }}{{ 1e3 }}{{ 123456789012345678901234567890 }}
{{ 'x' if messages[0].content is string and messages[0].content is not none and messages[0].content | length > 2 }}
{{ none is iterable }}{{ none is sequence }}{{ none is mapping }}{{ 1 is iterable }}{{ {} is iterable }}{{ nothing is iterable }}
{{ nothing is sequence }}{{ range(2) is iterable }}{{ 'a' is mapping }}{{ (1,) is sequence }}
{{ none | string }}|{{ none | trim }}|{{ none | tojson }}|{{ none ~ 'a' }}|[{{ none.x }}]|[{{ none['x'] }}]|[{{ 'abc'.x }}]|[{{ 1 .x }}]
{{ none | length }}
{{ 'a' in none }}
{% for x in 5 %}{% endfor %}
{{ messages[0]['nothing']['x'] }}
{{ '1' == 1 }}{{ 1 == true }}{{ 'a' == none }}{{ [] == false }}{{ '' or [] or 'e' }}
[{{ [] | first }}][{{ [] | last }}][{{ '' | first }}]{{ 'abc' | first }}{{ (messages | last)['role'] }}{{ (messages | first).role }}
{{ ['it\'s', "q\"", 'both\'"', '\n\t\\', 'ä', '\x00'] }}
{{ 'a' ~ [1, 'b'] ~ {'c': none} ~ (1, 'x') }}|{{ {'a': 1} | string }}|{{ true | string }}|{{ 1.0 | string }}
{{ 0.1 + 0.2 }}|{{ 3 / 2 * 2 }}|{{ 1e20 }}|{{ 1e-7 }}|{{ 1e15 }}|{{ 123456789.123 }}|{{ [0.1, 1.0] }}|{{ 1e400 }}{{ -1e400 }}
{{ 'é' | upper }}{{ 'ß' | upper }}{{ 'İ' | lower | length }}{{ 'x' * -1 }}{{ 'ab' * 2 }}{{ [0] * 2 }}
{{ true is true }}{{ false is false }}{{ 1 is true }}{{ messages is not none }}{{ tools is defined and tools }}
{{ messages | selectattr('role', 'in', ['user', 'system']) | map(attribute='role') | list }}{{ messages | map('tojson') | first }}
{% set ns = namespace(l=[]) %}{% for m in messages %}{% set ns.l = ns.l + [m.role] %}{% endfor %}{{ ns.l }}{{ ns.l | length }}
{% for a, b in [[1, 2], (3, 4)] %}{{ a }}{{ b }}{% endfor %}{% for k in messages[0] %}{{ k }}{% endfor %}
{% for a, b in [[1, 2, 3]] %}{% endfor %}
{% for i, m in enumerate(messages) %}{% endfor %}
{{ dict(messages[0], a=1) }}{{ messages[0].items() | list | tojson }}{{ messages[0].values() | list }}
{{ messages.pop() }}
{% do messages %}
{{ messages.count(1) }}|{{ 'a,b'.split(',')[1] }}
{{ 'a' if nothing else 'b' if tools else 'c' }}{{ ('a' if nothing) ~ 'z' }}{{ 'y' if not tools }}
{{ [1, 2, 3][-1] }}{{ [1, 2, 3][:2] }}{{ [1, 2, 3][::2] }}{{ (1, 2)[0] }}{{ 'abc'[1:] }}{{ messages[5:] }}{{ messages[-2:] | length }}
{{ messages['0'] }}[{{ messages.role }}]
{{ 'äöü' | length }}{{ 'äöü'[1] }}{{ '😀a'[1:] }}{{ 'äöü'.find('ü') }}
{{ 'A-B_c d' | lower | replace('-', ' ') | replace('_', '') }}{{ 'aaa' | replace('a', 'b', 2) }}{{ 'x' | replace('', '-') }}
{{ 1 | int }}{{ 1 | float }}{{ 7.0 | int }}{{ -7.9 | int }}
{{ 3.14159 | round(2) }}{{ 1234.5 | round | int }}{{ 2.5 | round(0, 'floor') }}{{ 5 | round }}
{%- set a = 'x' -%}{%- if a == 'x' and not (a != 'x' or false) -%} y {%- endif -%}
{{ "a" + "b" ~ "c" + "d" }}{{ 1 + 2 ~ 3 }}{{ -1 ~ 2 }}{{ 2 * 3 + 4 // 3 - 10 % 4 }}{{ not 1 == 2 }}{{ (1, 2) + (3,) }}{{ 5 - -2 }}
{{ loop }}
{{ [[1, 2], [3, 4]] | map('last') | list }}{{ [[1, 2], [3, 4]] | map(attribute=0) | list }}{{ [{'a': {'b': 1}}] | map(attribute='a.b') | list }}
{{ [{'a': 2}, {'a': 1}] | sort(attribute='a') }}{{ [2, 1] | sort | join('<') }}{{ {'b': 1, 'a': 2} | dictsort(by='value') }}{{ {'b': 1} | dictsort(reverse=true) }}
'''.strip("\n").split("\n")

CHATML = '''{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- "# Tools\\n\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if loop.index0 > ns.last_query_index and (loop.last or reasoning) %}
            {{- '<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- content.lstrip('\\n') }}
        {%- if message.tool_calls %}
            {%- for call in message.tool_calls %}
                {%- set call = call.function if call.function else call %}
                {{- '\\n<tool_call>\\n{"name": "' + call.name + '", "arguments": ' }}
                {{- call.arguments if call.arguments is string else call.arguments | tojson }}
                {{- '}\\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<tool_response>\\n' + content + '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}'''

LLAMA = '''{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}{%- set date_string = strftime_now("%d %b %Y") %}{%- else %}{%- set date_string = "26 Jul 2024" %}{%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: " + date_string + "\\n\\n" }}
{%- if tools is not none and tools %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message + "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n{"name": "' + tool_call.name + '", "parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}'''

MISTRAL = '''{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace(index=0) %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, conversation roles must alternate user/assistant/user/assistant/...") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}{{- '"' + key + '": "' + val + '"' }}{%- else %}{{- '"' + key + '": ' + val|tojson }}{%- endif %}
                    {%- if not loop.last %}{{- ", " }}{%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" }}{%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}{{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}{{- "[INST] " + message["content"] + "[/INST]" }}{%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {%- if not tool_call.id is defined or tool_call.id|length != 9 %}
                {{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}
            {%- endif %}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" + eos_token }}{%- endif %}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- elif message["role"] == "tool_results" or message["role"] == "tool" %}
        {%- if message.content is defined and message.content.content is defined %}
            {%- set content = message.content.content %}
        {%- else %}
            {%- set content = message.content %}
        {%- endif %}
        {{- '[TOOL_RESULTS] {"content": ' + content|string + ", " }}
        {{- '"call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported, with the exception of an initial optional system message!") }}
    {%- endif %}
{%- endfor %}'''

GEMMA = '''{%- macro argument(value, escape_keys=True) -%}
    {%- if value is string -%}{{- '<|"|>' + value + '<|"|>' -}}
    {%- elif value is boolean -%}{{- 'true' if value else 'false' -}}
    {%- elif value is mapping -%}
        {{- '{' -}}
        {%- set ns = namespace(found=false) -%}
        {%- for key, item in value | dictsort -%}
            {%- if ns.found %},{% endif -%}{%- set ns.found = true -%}
            {{- ('<|"|>' + key + '<|"|>') if escape_keys else key -}}:{{- argument(item, escape_keys=escape_keys) -}}
        {%- endfor -%}
        {{- '}' -}}
    {%- elif value is sequence -%}
        [{%- for item in value -%}{{- argument(item, escape_keys=escape_keys) -}}{{- ',' if not loop.last -}}{%- endfor -%}]
    {%- else -%}{{- value -}}
    {%- endif -%}
{%- endmacro -%}
{{ bos_token }}
{%- if (enable_thinking is defined and enable_thinking) or tools or messages[0]['role'] in ['system', 'developer'] -%}
    {{- '<|turn>system\\n' -}}
    {%- if messages[0]['role'] in ['system', 'developer'] -%}
        {{- messages[0]['content'] | trim -}}
        {%- set messages = messages[1:] -%}
    {%- endif -%}
    {%- for tool in tools or [] -%}
        <|tool>declaration:{{- tool['function']['name'] -}}{{- argument(tool['function']['parameters']['properties'] | default({}), escape_keys=False) -}}<tool|>
    {%- endfor -%}
    {{- '<turn|>\\n' -}}
{%- endif %}
{%- for message in messages -%}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
    {{- '<|turn>' + role + '\\n' }}
    {%- for call in message['tool_calls'] or [] -%}
        {{- '<|tool_call>call:' + call['function']['name'] -}}
        {{- argument(call['function']['arguments'], escape_keys=False) -}}
    {%- endfor -%}
    {%- if message['content'] is string -%}
        {{- message['content'] | trim -}}
    {%- elif message['content'] is sequence -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'text' -%}{{- item['text'] | trim -}}
            {%- elif item['type'] == 'image' -%}{{- '\\n\\n<|image|>\\n\\n' -}}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{- '<turn|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|turn>model\\n' -}}
    {%- if not enable_thinking | default(false) -%}{{- '<|channel>thought\\n<channel|>' -}}{%- endif -%}
{%- endif -%}
'''

DEEPSEEK = '''{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}
{%- set ns = namespace(is_first=false, is_tool=false, system='') -%}
{%- for message in messages if message['role'] == 'system' -%}
    {%- set ns.system = ns.system + ('\\n\\n' if ns.system) ~ message['content'] -%}
{%- endfor -%}
{{ bos_token }}{{ ns.system }}
{%- for message in messages -%}
    {%- if message['role'] == 'user' -%}
        {{ '<｜User｜>' + message['content'] }}
    {%- elif message['role'] == 'assistant' and message['tool_calls'] is defined and message['tool_calls'] is not none -%}
        {%- for tool in message['tool_calls'] -%}
            {{- '<｜tool▁call▁begin｜>' + tool['function']['name'] + '<｜tool▁sep｜>' + tool['function']['arguments'] | string }}
        {%- endfor -%}
    {%- elif message['role'] == 'assistant' -%}
        {%- set content = message['content'] -%}
        {%- if '</think>' in content -%}{%- set content = content.split('</think>', 1)[1] -%}{%- endif -%}
        {% generation %}{{ '<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>' }}{% endgeneration %}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<｜Assistant｜><think>\\n' }}{% endif %}
'''

MINIMAX = '''{%- macro visible(content) -%}
    {%- if content is string -%}
        {{ content }}
    {%- elif content is iterable and content is not mapping -%}
        {%- for item in content -%}
            {%- if item is mapping and item.type == 'text' -%}
                {{- item.text }}
            {%- elif item is string -%}
                {{- item }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{- content }}
    {%- endif -%}
{%- endmacro -%}
{%- set last = namespace(name=none) -%}
{%- for message in messages -%}
    {{- ']~b]' ~ message.role ~ '\\n' }}
    {%- if message.role == 'assistant' -%}
        {%- set content = visible(message.content) %}
        {%- if '</think>' in content %}
            {%- for part in content.split('</think>') %}
                {%- if loop.index0 == 0 -%}
                    {%- set reasoning = (part.strip('\\n').split('<think>')|last).strip('\\n') -%}
                    {{- reasoning }}
                {%- endif %}
            {%- endfor %}
        {%- endif %}
        {{- content }}
        {%- if message.tool_calls -%}
            {%- for tool_call in message.tool_calls -%}
                {%- if tool_call.function %}
                    {%- set tool_call = tool_call.function %}
                {%- endif %}
                {{- '<invoke name="' + tool_call.name + '">\\n' }}
                {%- if tool_call.arguments is mapping -%}
                {% set _args = tool_call.arguments %}
                {%- for k, v in _args|items %}
                {{- '<parameter name="' + k + '">' }}
                {{- v | tojson | string if v is not string else v }}
                {{- '</parameter>' }}
                {% endfor %}{%- endif -%}
            {%- endfor -%}
            {%- set last.name = message.tool_calls[-1].function.name -%}
        {%- endif -%}
    {%- elif message.role == 'tool' -%}
        {%- if last.name is none -%}{{- raise_exception("no tool call before this") }}{%- endif -%}
        {{- last.name ~ ':' ~ visible(message.content) }}
    {%- else -%}
        {{- visible(message.content) }}
    {%- endif -%}
    {{- '[e~[\\n' }}
{%- endfor -%}
'''

TOOLS = [{"type": "function", "function": {
    "name": "get_weather", "description": "Today's \"weather\" – °C", "parameters": {"type": "object", "properties": {
        "place": {"type": "string", "enum": ["Köln", "a/b"]}, "days": {"type": "integer"},
        "more": {"type": "object", "properties": {"wind": {"type": ["boolean", "null"]}}}}, "required": ["place"]}}}]
CALL = {"id": "abc123def", "type": "function", "function": {
    "name": "get_weather", "arguments": {"place": "Köln", "days": 2, "more": {"wind": True, "none": None, "x": [1, 2.5]}}}}
USER, ANSWER = {"role": "user", "content": " Hello! <|x|> 'ä' "}, {"role": "assistant", "content": "Hi.\n"}
SYSTEM = {"role": "system", "content": "Be brief."}
CONVERSATIONS = {
    "plain": {"messages": [USER]},
    "system": {"messages": [SYSTEM, USER, ANSWER, {"role": "user", "content": ""}]},
    "tools": {"messages": [SYSTEM, USER], "tools": TOOLS},
    "call": {"messages": [USER, {"role": "assistant", "content": "", "tool_calls": [CALL]},
                          {"role": "tool", "content": "{\"t\": 21}", "tool_call_id": "abc123def"}], "tools": TOOLS},
    "call_of_text": {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [
        {**CALL, "function": {"name": "f", "arguments": "{}"}}, CALL]}], "tools": TOOLS},
    "thinking": {"messages": [USER, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes"}, USER,
                              {"role": "assistant", "content": "No", "reasoning_content": "why"}]},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": " a "}, {"type": "image"},
                                                        {"type": "text", "text": "b"}]}]},
    "no_thinking": {"messages": [USER], "enable_thinking": False, "add_generation_prompt": True},
    "two_users": {"messages": [USER, USER]},
    "tool_first": {"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]},
    "nobody": {"messages": []},
}
FAMILIES = {"chatml": CHATML, "llama": LLAMA, "mistral": MISTRAL, "gemma": GEMMA, "deepseek": DEEPSEEK,
            "minimax": MINIMAX}


def render(source, context):
    try:
        return {"text": environment.from_string(source).render(**context)}
    except Exception as error:  # noqa: BLE001: whatever it is, the template fails
        return {"error": str(error) if type(error) is jinja2.exceptions.TemplateError else ""}


def main():
    base = {"messages": CONVERSATIONS["system"]["messages"], "tools": TOOLS}
    short = [{"source": source, **render(source, base)} for source in SHORT]
    contexts, cases = {}, []
    for name, conversation in CONVERSATIONS.items():
        contexts[name] = {"tools": None, "add_generation_prompt": name != "system", "bos_token": "<s>",
                          "eos_token": "</s>", **conversation}
    for family, source in FAMILIES.items():
        for name, context in contexts.items():
            cases.append({"family": family, "conversation": name, **render(source, context)})
    data = {"base": base, "short": short, "families": FAMILIES, "conversations": contexts, "cases": cases}
    path = pathlib.Path(__file__).with_name("chat_templates.json")
    path.write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
