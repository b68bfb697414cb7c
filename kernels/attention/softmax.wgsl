{#- The softmax of the rows of a walk, as it goes. 128 / rows invocations have a row, rows / 4 of a tile's 32
    columns each: they agree on the row's largest score in every tile, and on the sum of its weights at the end.
    Where there are subgroups, they agree by shuffles; where not, by workgroup memory and a barrier.
    Needs LEAST, exp_below, and `tile`. -#}

{#- What the invocations of a row have, put together by `operation`. -#}
{%- macro agreement(name, operation, members, subgroups) %}
fn {{ name }}(own: f32, member: u32) -> f32 {
{%- if subgroups %}
  var all = own;
{%- for distance in [1, 2, 4] if distance < members %}
  all = {{ operation("all", "subgroupShuffleXor(all, " ~ distance ~ "u)") }};
{%- endfor %}
{%- else %}
  pieces[member] = own;
  workgroupBarrier();
  let first = member / {{ members }}u * {{ members }}u;
  var all = pieces[first];
{%- for other in range(1, members) %}
  all = {{ operation("all", "pieces[first + " ~ other ~ "u]") }};
{%- endfor %}
{%- endif %}
  return all;
}
{%- endmacro -%}

{%- macro larger(a, b) %}max({{ a }}, {{ b }}){% endmacro -%}
{%- macro added(a, b) %}{{ a }} + {{ b }}{% endmacro -%}

{%- macro declarations(rows, subgroups) %}
// What the sums of each row are multiplied by, as its largest score grows.
var<workgroup> kept: array<f32, {{ rows }}>;
// At the end, each row's largest score, and the sum of its weights.
var<workgroup> most: array<f32, {{ rows }}>;
var<workgroup> total: array<f32, {{ rows }}>;
{%- if not subgroups %}
// What each invocation has.
var<workgroup> pieces: array<f32, 128>;
{%- endif %}
{{ agreement("largest_of_row", larger, 128 // rows, subgroups) }}
{{ agreement("sum_of_row", added, 128 // rows, subgroups) }}
{%- endmacro -%}

{#- Before the first tile. Invocation `member` has row `own_row`. -#}
{%- macro start(rows, subgroups) %}
{%- if subgroups %}
  // Not `thread`, as nobody says which of these lie in one subgroup. All subgroups are full.
  let member = subgroup * subgroup_size + lane;
{%- else %}
  let member = thread;
{%- endif %}
  let own_row = member / {{ 128 // rows }}u;
  let own_piece = own_row * 33u + member % {{ 128 // rows }}u * {{ rows // 4 }}u;
  var own_most = LEAST;
  var own_total = 0.0;
{%- endmacro -%}

{#- Scores of a tile become weights, which are there after the next barrier, and so is `kept`. -#}
{%- macro step(rows) %}
      workgroupBarrier();
      var largest = own_most;
{%- for c in range(rows // 4) %}
      largest = max(largest, tile[own_piece + {{ c }}u]);
{%- endfor %}
      largest = largest_of_row(largest, member);
      var sum = 0.0;
{%- for c in range(rows // 4) %}
      {
        let weight = exp_below(tile[own_piece + {{ c }}u], largest);
        tile[own_piece + {{ c }}u] = weight;
        sum += weight;
      }
{%- endfor %}
      let factor = exp_below(own_most, largest);
      own_total = own_total * factor + sum;
      own_most = largest;
      if (member % {{ 128 // rows }}u == 0u) {
        kept[own_row] = factor;
      }
{%- endmacro -%}

{#- After the last tile: `most` and `total`. -#}
{%- macro finish(rows) %}
  own_total = sum_of_row(own_total, member);
  if (member % {{ 128 // rows }}u == 0u) {
    most[own_row] = own_most;
    total[own_row] = own_total;
  }
  workgroupBarrier();
{%- endmacro -%}
