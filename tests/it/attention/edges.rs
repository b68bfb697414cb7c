//! Rows that see nothing, numbers that are none, sinks, and scores that are equal or very large.

use std::ops::Range;

use warpwright::attention::{Alignment, Mask, Options, Positions, Sight};
use warpwright::verify::attention::{Bias, Case, Numbers, Sizes, run_case};
use warpwright::{Cpu, DType, Device, DeviceFloat, Named, Tensor, View, bf16, f16};

use super::{assert_all_same_bits, assert_close, change, everything, numbers, run, tensor, ways};
use crate::devices::{devices, ieee_devices, poison};

/// A call in which some queries see nothing, and some keys are seen by nobody.
struct Blind {
    case: Case,
    /// Where packed sequences begin, of queries and of keys.
    bounds: Option<[&'static [i32]; 2]>,
    queries: Range<usize>,
    keys: Range<usize>,
}

fn blind_calls() -> [Blind; 3] {
    let of = |queries, keys| Sizes { queries, keys, ..everything().sizes };
    let (dlse, causal) = (true, Mask::causal());
    let top_left = causal.with_alignment(Alignment::TopLeft);
    let plain = |mask, sizes| Case { mask, dlse, ..Case::new(sizes) };
    [
        Blind { case: plain(causal, of(43, 7)), bounds: None, queries: 0..36, keys: 0..0 },
        Blind { case: plain(top_left, of(7, 43)), bounds: None, queries: 0..0, keys: 7..43 },
        Blind {
            case: plain(causal, Sizes { batch: 1, ..of(12, 41) }),
            bounds: Some([&[0, 5, 9, 9, 12], &[0, 6, 6, 37, 41]]),
            queries: 5..9,
            keys: 6..37,
        },
    ]
}

impl Blind {
    fn tensors<T: DeviceFloat>(&self) -> Named<Cpu> {
        let mut named = self.case.tensors::<T>().expect("tensors");
        let Some([queries, keys]) = self.bounds else { return named };
        for view in named.values_mut() {
            let bytes = view.to_bytes().expect("not in use");
            *view = View::from_bytes(&Cpu, view.dtype(), &bytes, &view.shape()[1..]).expect("fits");
        }
        for (name, bounds) in [("cu_seqlens_q", queries), ("cu_seqlens_k", keys)] {
            let bounds = Tensor::from_slice(&Cpu, bounds, &[bounds.len()]).expect("fits");
            named.insert(name.to_owned(), bounds.into_view());
        }
        named
    }
}

/// The tokens of the elements of (.., S, H, D).
fn token(view: &View<Cpu>, i: usize) -> usize {
    let [.., tokens, heads, width] = **view.shape() else { panic!("three axes at least") };
    i / (heads * width) % tokens
}

/// What has nothing to do with others is exactly nothing, whatever it holds, and the others do not
/// notice.
#[test]
fn queries_without_keys_and_keys_without_queries_are_nothing() {
    for device in devices() {
        for blind in blind_calls() {
            blind_is_nothing::<f32>(device, &blind);
            blind_is_nothing::<bf16>(device, &blind);
        }
    }
}

fn blind_is_nothing<T: DeviceFloat>(device: &Device, blind: &Blind) {
    let named = blind.tensors::<T>();
    let mut poisoned = named.clone();
    let poison = f64::from(poison(device));
    for (name, tokens) in
        [("q", &blind.queries), ("dout", &blind.queries), ("k", &blind.keys), ("v", &blind.keys)]
    {
        let view = named[name].clone();
        let to = |i, x| if tokens.contains(&token(&view, i)) { poison } else { x };
        change::<T>(&mut poisoned, name, to);
    }
    for options in ways::<T>(device, &named, &blind.case.options()) {
        let what = format!("{} {options:?} on {}", blind.case.describe(), device.name());
        let found = run(device, &poisoned, &options);
        assert_all_same_bits(&found, &run(device, &named, &options), &what);
        for (name, tokens) in [
            ("out", &blind.queries),
            ("dq", &blind.queries),
            ("dk", &blind.keys),
            ("dv", &blind.keys),
        ] {
            for (i, x) in numbers(&found[name]).into_iter().enumerate() {
                let is_blind = tokens.contains(&token(&found[name], i));
                assert!(!is_blind || x == 0.0, "{name}[{i}] is {x}, {what}");
            }
        }
        for (i, lse) in numbers(&found["lse"]).into_iter().enumerate() {
            let is_blind = blind.queries.contains(&(i % blind.case.sizes.queries));
            assert_eq!(lse == f64::NEG_INFINITY, is_blind, "lse[{i}] is {lse}, {what}");
        }
    }
}

/// A bias of -∞ hides pairs as a mask does, all pairs of a query too.
#[test]
fn rows_that_a_bias_hides_are_nothing() {
    for device in devices() {
        let case = Case { bias: Bias::Masks, dlse: true, ..Case::new(everything().sizes) };
        let named = case.tensors::<f32>().expect("tensors");
        let bias = numbers(&named["bias"]);
        let rows: Vec<&[f64]> = bias.chunks_exact(case.sizes.keys).collect();
        let hidden = |query: usize| rows[query].iter().all(|bias| *bias == f64::NEG_INFINITY);
        assert!((0..rows.len()).any(hidden) && !(0..rows.len()).all(hidden));
        for options in ways::<f32>(device, &named, &case.options()) {
            let what = format!("{options:?} on {}", device.name());
            let found = run(device, &named, &options);
            for (i, lse) in numbers(&found["lse"]).into_iter().enumerate() {
                let is_hidden = hidden(i % rows.len());
                assert_eq!(lse == f64::NEG_INFINITY, is_hidden, "lse[{i}] is {lse}, {what}");
            }
            for name in ["out", "dq"] {
                for (i, x) in numbers(&found[name]).into_iter().enumerate() {
                    let is_hidden = hidden(token(&found[name], i));
                    assert!(!is_hidden || x == 0.0, "{name}[{i}] is {x}, {what}");
                }
            }
            for (i, (x, bias)) in numbers(&found["dbias"]).iter().zip(&bias).enumerate() {
                let is_hidden = *bias == f64::NEG_INFINITY;
                assert!(!is_hidden || *x == 0.0, "dbias[{i}] is {x}, {what}");
            }
        }
    }
}

#[test]
fn a_nan_stays_in_its_row() {
    for device in ieee_devices() {
        for (query, softcap) in [(0, None), (17, Some(1.5)), (36, None)] {
            nan_stays::<f32>(device, query, softcap);
            nan_stays::<f16>(device, query, softcap);
        }
    }
}

fn nan_stays<T: DeviceFloat>(device: &Device, query: usize, softcap: Option<f32>) {
    const ENTRY: usize = 1;
    const HEAD: usize = 4;
    let case = Case { softcap, ..Case::causal(everything().sizes) };
    let Sizes { heads, queries, width, value_width, .. } = case.sizes;
    let row = (ENTRY * queries + query) * heads + HEAD;
    let named = case.tensors::<T>().expect("tensors");
    let mut hurt = named.clone();
    change::<T>(&mut hurt, "q", |i, x| if i == row * width + 3 { f64::NAN } else { x });
    for options in ways::<T>(device, &named, &case.options()) {
        let (clean, hurt) = (run(device, &named, &options), run(device, &hurt, &options));
        let what = format!("query {query}, {options:?} on {}", device.name());
        let number = (ENTRY * heads + HEAD) * queries + query;
        for (name, line, row) in [("out", value_width, row), ("dq", width, row), ("lse", 1, number)]
        {
            let (x, y) = (numbers(&hurt[name]), numbers(&clean[name]));
            for (i, (x, y)) in x.iter().zip(&y).enumerate() {
                match i / line == row {
                    true => assert!(x.is_nan(), "{name}[{i}] is {x}, {what}"),
                    false => assert_eq!(x.to_bits(), y.to_bits(), "{name}[{i}], {what}"),
                }
            }
        }
    }
}

#[test]
fn a_sink_of_minus_infinity_is_none() {
    for device in devices() {
        // Some queries see nothing.
        let sizes = Sizes { queries: 43, keys: 29, ..everything().sizes };
        let case = Case { dlse: true, ..Case::causal(sizes) };
        let named = case.tensors::<f32>().expect("tensors");
        let mut with_sink = named.clone();
        let sinks = vec![f64::NEG_INFINITY; sizes.heads];
        with_sink.insert("sink".to_owned(), tensor::<f32>(&sinks, &[sizes.heads]));
        for options in ways::<f32>(device, &with_sink, &case.options()) {
            let what = format!("{options:?} on {}", device.name());
            let found = run(device, &with_sink, &options);
            assert_all_same_bits(&found, &run(device, &named, &options), &what);
            assert!(numbers(&found["dsink"]).iter().all(|x| *x == 0.0), "dsink, {what}");
        }
    }
}

#[test]
fn rows_without_keys_have_their_sink() {
    for device in devices() {
        for keys in [0, 7] {
            let sizes = Sizes { keys, ..everything().sizes };
            let case = Case { sink: true, dlse: true, ..Case::causal(sizes) };
            let named = case.tensors::<f32>().expect("tensors");
            let sink = numbers(&named["sink"]);
            let blind = 0..sizes.queries - keys;
            for options in ways::<f32>(device, &named, &case.options()) {
                let what = format!("{keys} keys, {options:?} on {}", device.name());
                let found = run(device, &named, &options);
                for (i, lse) in numbers(&found["lse"]).into_iter().enumerate() {
                    let of_head = sink[i / sizes.queries % sizes.heads];
                    let is_blind = blind.contains(&(i % sizes.queries));
                    assert!(!is_blind || lse == of_head, "lse[{i}] is {lse}, {what}");
                }
                for name in ["out", "dq"] {
                    for (i, x) in numbers(&found[name]).into_iter().enumerate() {
                        let is_blind = blind.contains(&token(&found[name], i));
                        assert!(!is_blind || x == 0.0, "{name}[{i}] is {x}, {what}");
                    }
                }
            }
        }
    }
}

/// Scores that are all alike give the mean of the values in sight: where products count for nothing,
/// and where all keys are the same one.
#[test]
fn equal_scores_give_the_mean() {
    let sizes = everything().sizes;
    for device in devices() {
        for case in [
            Case { scale: Some(0.0), ..Case::causal(sizes) },
            Case { scale: Some(3.0), numbers: Numbers::Alike, ..Case::causal(sizes) },
        ] {
            equal_scores_are_a_mean::<f32>(device, &case);
            equal_scores_are_a_mean::<bf16>(device, &case);
        }
    }
}

fn equal_scores_are_a_mean<T: DeviceFloat>(device: &Device, case: &Case) {
    let Sizes { batch, heads, queries, keys, value_width, .. } = case.sizes;
    let named = case.tensors::<T>().expect("tensors");
    let sight = Sight::new(&case.mask, Positions::whole(queries), Positions::whole(keys));
    let v = numbers(&named["v"]);
    let kv_heads = case.sizes.kv_heads;
    let mean = |i: usize| {
        let (line, d) = (i / value_width, i % value_width);
        let (entry, query, head) = (line / heads / queries, line / heads % queries, line % heads);
        let seen = sight.keys_of(query);
        let count = seen.len() as f64;
        let value = |key| {
            let line = (entry * keys + key) * kv_heads + head / (heads / kv_heads);
            v[line * value_width + d]
        };
        seen.map(value).sum::<f64>() / count
    };
    let shape = [batch, queries, heads, value_width];
    let means: Vec<f64> = (0..shape.iter().product()).map(mean).collect();
    let means = tensor::<f32>(&means, &shape);
    let logarithms = |i| (sight.keys_of(i % queries).len() as f64).ln();
    let logarithms: Vec<f64> = (0..batch * heads * queries).map(logarithms).collect();
    let logarithms = tensor::<f32>(&logarithms, &[batch, heads, queries]);
    for options in ways::<T>(device, &named, &case.options()) {
        let what = format!("{options:?} on {}", device.name());
        let found = run(device, &named, &options);
        assert_close(T::DTYPE, "out", &found["out"], &means, &what);
        if case.scale == Some(0.0) {
            assert_close(T::DTYPE, "lse", &found["lse"], &logarithms, &what);
        }
    }
}

/// Scores of up to 61504, of which two of each row are the largest.
#[test]
fn scores_near_the_limit_of_f16_stay_finite() {
    const WIDTH: usize = 16;
    const KEYS: [f64; 8] = [60.0, 61.0, 62.0, 60.0, 61.0, 62.0, 61.0, 61.0];
    const LARGEST: [[usize; 2]; 2] = [[2, 5], [0, 3]];
    let (options, shape) = (Options::default().with_scale(1.0), |tokens| [1, tokens, 1, WIDTH]);
    let lines = |tokens: &[f64]| {
        let all: Vec<f64> = tokens.iter().flat_map(|x| [*x; WIDTH]).collect();
        tensor::<f16>(&all, &shape(tokens.len()))
    };
    let drawn = Case::new(Sizes { queries: 2, ..Sizes::square([1, 1, 1, KEYS.len(), WIDTH]) });
    let mut named = drawn.tensors::<f16>().expect("tensors");
    named.insert("q".to_owned(), lines(&[62.0, -62.0]));
    named.insert("k".to_owned(), lines(&KEYS));
    let v = numbers(&named["v"]);
    let value = |key: usize, d: usize| v[key * WIDTH + d];
    let means: Vec<f64> = LARGEST
        .into_iter()
        .flat_map(|[first, second]| (0..WIDTH).map(move |d| (first, second, d)))
        .map(|(first, second, d)| (value(first, d) + value(second, d)) / 2.0)
        .collect();
    let scores = [62.0 * 62.0, -62.0 * 60.0].map(|score| score * WIDTH as f64 + 2f64.ln());
    for device in devices() {
        for options in ways::<f16>(device, &named, &options) {
            let what = format!("{options:?} on {}", device.name());
            let found = run(device, &named, &options);
            for (name, view) in &found {
                assert!(numbers(view).iter().all(|x| x.is_finite()), "{name}, {what}");
            }
            assert_close(
                DType::F16,
                "out",
                &found["out"],
                &tensor::<f16>(&means, &shape(2)),
                &what,
            );
            let lse = tensor::<f32>(&scores, &[1, 1, 2]);
            assert_close(DType::F16, "lse", &found["lse"], &lse, &what);
        }
    }
}

/// A case of the full grid, in which both numbers of dv are small beside the terms that they are sums of.
#[test]
fn few_gradients_may_be_small_in_16_bits() {
    let sizes = Sizes { queries: 3, keys: 2, ..Sizes::square([1, 2, 1, 1, 1]) };
    let case = Case {
        mask: Mask::causal().with_alignment(Alignment::TopLeft),
        sink: true,
        narrow: true,
        one_buffer: true,
        seed: 954_681_407,
        ..Case::new(sizes)
    };
    for device in devices() {
        let mut complaints = Vec::new();
        run_case(device, &case, |report| complaints.extend(report.complaint()));
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }
}
