{#- The sums of the backward pass, on chip and in scratch. Needs `params`, `has`, `number`. -#}

{#- Results of a channel, once all its lanes have left their parts. -#}
{%- macro over_lanes(lanes, row) %}
fn sum_of_parts(slot: u32, t: u32) -> f32 {
  var sum = 0.0;
  for (var lane = 0u; lane < {{ lanes }}u; lane++) {
    sum += parts[(slot * {{ lanes }}u + lane) * {{ row }}u + t];
  }
  return sum;
}

fn sum_of_ddelta_parts(slot: u32, t: u32) -> f32 {
  var sum = 0.0;
  for (var lane = 0u; lane < {{ lanes }}u; lane++) {
    sum += ddelta_parts[(slot * {{ lanes }}u + lane) * {{ row }}u + t];
  }
  return sum;
}

// Adds to a sum over time.
fn add(word: u32, x: f32) {
  scratch[word] = bitcast<u32>(select(x, number(word) + x, has(GOES_ON)));
}
{%- endmacro -%}

{#- The kept states of each step over the channels, times a number of each channel and step, into the parts
    of dB or dC. -#}
{%- macro over_channels(at, factors, shape) %}
      for (var e = thread; e < {{ shape.tile * shape.lanes * shape.vectors }}u; e += {{ shape.threads }}u) {
        let t = e / {{ shape.lanes * shape.vectors }}u;
        let v = e % {{ shape.lanes * shape.vectors }}u;
        if (start + t >= first && start + t < end) {
          let place = (t * {{ shape.vectors }}u + v % {{ shape.vectors }}u) * {{ shape.pitch }}u + v / {{ shape.vectors }}u;
          var sum = vec4<f32>();
          for (var s = 0u; s < live; s++) {
            sum += {{ factors }}[s * {{ shape.row }}u + t] * kept_states[place + s * {{ shape.lanes }}u];
          }
          let part = params.{{ at }} + part_first + (start + t - params.start) * params.states + 4u * v;
          let count = min(4u, max(params.states, 4u * v) - 4u * v);
          for (var i = 0u; i < count; i++) {
            var value = sum[i];
            if (has(BLOCKS_GO_ON)) {
              value += number(part + i);
            }
            scratch[part + i] = bitcast<u32>(value);
          }
        }
      }
{%- endmacro -%}

{#- Registers of states, summed over the segment, into the sums of the row; `place` tells where state i is. -#}
{%- macro over_time(states, place) %}
    kept = {{ states }};
    for (var i = 0u; i < own; i++) {
      add({{ place }}, kept[i]);
    }
{%- endmacro -%}
