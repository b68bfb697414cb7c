{#- Where codes lie in a chunk, as src/group_sparse/layout.rs says: a step is four columns, `words` the chunk's four words
    of codes, `bits_above` its two words of high bits with 3 bits. All places are known when a kernel is made. -#}

{#- Steps of a chunk. -#}
{%- macro steps(bits) %}{{ {8: 4, 4: 8, 3: 16, 2: 16}[bits] }}{% endmacro -%}

{#- The codes of step t, a vec4<u32>. -#}
{%- macro step(bits, t) -%}
{%- if bits == 8 -%}
((vec4<u32>(words[{{ t }}]) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u))
{%- elif bits == 4 -%}
{%- set first = t % 2 * 16 -%}
((vec4<u32>(words[{{ t // 2 }}]) >> vec4<u32>({{ first }}u, {{ first + 4 }}u, {{ first + 8 }}u, {{ first + 12 }}u)) & vec4<u32>(15u))
{%- else -%}
{%- set first = t % 4 * 8 -%}
((vec4<u32>(words[{{ t // 4 }}]) >> vec4<u32>({{ first }}u, {{ first + 2 }}u, {{ first + 4 }}u, {{ first + 6 }}u)) & vec4<u32>(3u))
{%- if bits == 3 %}
        | ((vec4<u32>({{ turned("bits_above[" ~ (t // 8) ~ "]", t % 8 // 2 * 8 + t % 2) }}) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(4u))
{%- endif -%}
{%- endif -%}
{%- endmacro -%}

{%- macro turned(word, by) -%}
{%- if by == 0 %}{{ word }}{% else %}({{ word }} >> {{ by }}u) | ({{ word }} << {{ 32 - by }}u){% endif -%}
{%- endmacro -%}
