//! What holds for every scan attention: sections 6, 9 and 11 of the specification.

use proptest::prelude::*;
use warpwright::backend::{Language, in_f64};
use warpwright::scan_attention::{
    self, Layout, Options, ScanAttention, Scores, State, StepInputs, run_named,
};
use warpwright::verify::scan_attention::{Case, Documents, run_case};
use warpwright::{Cpu, Device, Element, Named, Tensor, View};

use crate::devices::{devices, ieee_devices};

mod errors;
#[cfg(feature = "interpreter")]
mod interpreter;

fn values<T: Element>(view: &View<Cpu>) -> Vec<T> {
    view.typed::<T>().expect("of this type").to_vec().expect("not in use")
}

fn tensor<T: Element>(values: Vec<T>, shape: &[usize]) -> View<Cpu> {
    Tensor::from_slice(&Cpu, &values, shape).expect("of this shape").into_view()
}

fn run(device: &Device, named: &Named<Cpu>, options: &Options) -> Named<Cpu> {
    let ran = run_named(device, named, options);
    ran.unwrap_or_else(|error| panic!("{}: {error}", device.name())).outputs
}

/// The largest difference over the largest value.
fn distance(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(f32::MIN_POSITIVE, |max, x| max.max(x.abs()));
    let difference = found.iter().zip(expected).map(|(x, y)| (x - y).abs());
    difference.fold(0.0, f32::max) / scale
}

/// A tolerance that covers the roundings of two paths: twice the specification's for one.
const PATHS: f32 = 4e-5;

fn close(device: &Device, name: &str, found: &View<Cpu>, expected: &View<Cpu>) {
    let error = distance(&values(found), &values(expected));
    assert!(error < PATHS, "{name} on {}: {error:e}", device.name());
}

/// Steps of every tensor that has them; scores have them last, the others third.
fn steps_of(named: &Named<Cpu>, steps: std::ops::Range<usize>) -> Named<Cpu> {
    let cut = |(name, view): (&String, &View<Cpu>)| {
        let axis = match name.as_str() {
            "s" | "k" | "v" | "do" => Some(2),
            "mask" | "seq_idx" => Some(1),
            _ => None,
        };
        let part = axis.map_or(Ok(view.clone()), |axis| view.narrowed(axis, steps.clone()));
        (name.clone(), part.expect("within the axis").to_backend(&Cpu).expect("memory"))
    };
    named.iter().map(cut).collect()
}

#[test]
fn repeated_runs_give_equal_bits() {
    for device in devices() {
        for case in [Case::scores(2, 3, 257, 40), Case::keys(2, [4, 2], 130, 32)] {
            let named = case.tensors::<f32>().expect("tensors");
            let (first, second) =
                (run(device, &named, &case.options()), run(device, &named, &case.options()));
            for (name, view) in &first {
                let (bits, again) = (view.to_bytes().unwrap(), second[name].to_bytes().unwrap());
                assert!(bits == again, "{name} on {}", device.name());
            }
        }
    }
}

/// Two parts of time, the carry handed over, and their gradients.
fn split_is_whole(device: &Device, case: &Case, cut: usize) {
    let named = case.tensors::<f32>().expect("tensors");
    let whole = run(device, &named, &case.options());
    let steps = case.sizes.steps;
    let mut first = steps_of(&named, 0..cut);
    let (du, dw) = (first.remove("du"), first.remove("dw"));
    let forward = run(device, &first, &case.options());
    let mut second = steps_of(&named, cut..steps);
    for (name, output) in [("m0", "m"), ("u0", "u"), ("w0", "w")] {
        second.insert(name.to_owned(), forward[output].clone());
    }
    second.extend(du.map(|du| ("du".to_owned(), du)));
    second.extend(dw.map(|dw| ("dw".to_owned(), dw)));
    let second = run(device, &second, &case.options());
    first.insert("du".to_owned(), second["du0"].clone());
    first.insert("dw".to_owned(), second["dw0"].clone());
    let first = run(device, &first, &case.options());
    for (name, axis) in [("o", 2), ("lse", 2), ("dv", 2), ("ds", 2)] {
        let part = |range| whole[name].narrowed(axis, range).expect("steps");
        close(device, name, &first[name], &part(0..cut).to_backend(&Cpu).unwrap());
        close(device, name, &second[name], &part(cut..steps).to_backend(&Cpu).unwrap());
    }
    for name in ["u", "w"] {
        close(device, name, &second[name], &whole[name]);
    }
    for name in ["dm0", "du0", "dw0"] {
        close(device, name, &first[name], &whole[name]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn a_split_scan_is_the_whole_scan(seed in 0u64..1000, steps in 2usize..200, cut in 0.0..1.0f64) {
        let cut = 1 + ((steps - 1) as f64 * cut) as usize;
        for device in devices() {
            split_is_whole(device, &Case { seed, ..Case::scores(2, 2, steps, 6) }, cut);
        }
    }

    /// Both layouts mean the same.
    #[test]
    fn layouts_agree(seed in 0u64..1000, steps in 1usize..80, width in 1usize..40) {
        for device in devices() {
            let case = Case { seed, ..Case::keys(2, [4, 2], steps, width) };
            let named = case.tensors::<f32>().expect("tensors");
            let turn = |(name, view): (&String, &View<Cpu>)| {
                let turned = match name.as_str() {
                    "k" | "v" | "do" => view.transposed(1, 2).expect("axes"),
                    _ => view.clone(),
                };
                (name.clone(), turned.to_backend(&Cpu).expect("memory"))
            };
            let turned: Named<Cpu> = named.iter().map(turn).collect();
            let one = run(device, &named, &case.options());
            let other = run(device, &turned, &case.options().with_layout(Layout::Blhd));
            for name in ["o", "dv", "dk"] {
                let turned = other[name].transposed(1, 2).unwrap().to_backend(&Cpu).unwrap();
                close(device, name, &turned, &one[name]);
            }
            for name in ["lse", "dq", "w", "dw0"] {
                close(device, name, &other[name], &one[name]);
            }
        }
    }
}

/// The recurrence is a softmax over the steps so far, here without any cleverness.
#[test]
fn the_scan_is_a_prefix_softmax() {
    let (steps, width) = (45, 3);
    let case = Case { carry: false, ..Case::scores(1, 2, steps, width) };
    let named = in_f64(&case.tensors::<f32>().expect("tensors")).expect("tensors");
    let found = run(&Device::Cpu(Cpu), &named, &case.options());
    let (s, v) = (values::<f64>(&named["s"]), values::<f64>(&named["v"]));
    let (o, lse) = (values::<f64>(&found["o"]), values::<f64>(&found["lse"]));
    for line in 0..2 {
        for t in 0..steps {
            let weights: Vec<f64> = (0..=t).map(|i| s[line * steps + i].exp()).collect();
            let sum: f64 = weights.iter().sum();
            assert!((lse[line * steps + t] - sum.ln()).abs() < 1e-12);
            for d in 0..width {
                let value = |i: usize| v[(line * steps + i) * width + d];
                let mean = weights.iter().enumerate().map(|(i, w)| w * value(i)).sum::<f64>() / sum;
                assert!((o[(line * steps + t) * width + d] - mean).abs() < 1e-12);
            }
        }
    }
}

/// Documents packed by `cu_seqlens`, told apart by `seq_idx`, and each by itself.
#[test]
fn documents_share_a_row_in_either_form() {
    let (steps, bounds) = (90, [0usize, 40, 40, 90]);
    for device in devices() {
        let plain =
            Case { carry: false, carry_gradients: false, ..Case::keys(1, [2, 1], steps, 6) };
        let named = plain.tensors::<f32>().expect("tensors");
        let mut packed = named.clone();
        let entries = bounds.iter().map(|&bound| bound as i32).collect();
        packed.insert("cu_seqlens".to_owned(), tensor::<i32>(entries, &[4]));
        let mut marked = named.clone();
        let numbers = (0..steps).map(|t| i64::from(t >= 40)).collect();
        marked.insert("seq_idx".to_owned(), tensor::<i64>(numbers, &[1, steps]));
        let packed = run(device, &packed, &plain.options());
        let marked = run(device, &marked, &plain.options());
        for name in ["o", "lse", "dv", "dk", "dq"] {
            close(device, name, &packed[name], &marked[name]);
        }
        for range in [0..40, 40..90] {
            let alone = run(device, &steps_of(&named, range.clone()), &plain.options());
            for name in ["o", "lse", "dv", "dk"] {
                let part = packed[name].narrowed(2, range.clone()).unwrap();
                close(device, name, &part.to_backend(&Cpu).unwrap(), &alone[name]);
            }
        }
        assert!(values::<f32>(&packed["u"])[2..4].iter().all(|u| *u == 0.0), "an empty sequence");
    }
}

/// A reset keeps documents apart bit for bit: whatever happens in the first one, forward or
/// backward, the second one does not know of it.
#[test]
fn nothing_leaks_through_a_reset() {
    let (steps, cut, width) = (75, 41, 5);
    for device in ieee_devices() {
        let case =
            Case { carry: false, carry_gradients: false, ..Case::scores(1, 2, steps, width) };
        let mut named = case.tensors::<f32>().expect("tensors");
        let numbers = (0..steps).map(|t| i32::from(t >= cut)).collect();
        named.insert("seq_idx".to_owned(), tensor::<i32>(numbers, &[1, steps]));
        let clean = run(device, &named, &case.options());
        let mut dirty = named.clone();
        let mut scores = values::<f32>(&named["s"]);
        scores[cut - 1] = f32::NAN;
        dirty.insert("s".to_owned(), tensor(scores, &[1, 2, steps]));
        let mut numbers = values::<f32>(&named["v"]);
        numbers[(cut - 2) * width] = f32::INFINITY;
        dirty.insert("v".to_owned(), tensor(numbers, &[1, 2, steps, width]));
        let dirty = run(device, &dirty, &case.options());
        for name in ["o", "lse", "dv", "ds"] {
            let behind = |named: &Named<Cpu>| {
                named[name].narrowed(2, cut..steps).unwrap().to_bytes().unwrap()
            };
            assert!(behind(&clean) == behind(&dirty), "{name} on {}", device.name());
        }
        // And nothing flows back: what is behind the reset does not matter before it.
        let mut dirty = named.clone();
        let mut gradients = values::<f32>(&named["do"]);
        gradients[(cut + 3) * width] = f32::NAN;
        dirty.insert("do".to_owned(), tensor(gradients, &[1, 2, steps, width]));
        let dirty = run(device, &dirty, &case.options());
        for name in ["dv", "ds"] {
            let before =
                |named: &Named<Cpu>| named[name].narrowed(2, 0..cut).unwrap().to_bytes().unwrap();
            assert!(before(&clean) == before(&dirty), "{name} on {}", device.name());
        }
    }
}

/// Section 9: a NaN score reaches every later step of its head, and nothing else.
#[test]
fn a_nan_score_stays_where_it_belongs() {
    let (steps, width, t) = (70, 4, 37);
    for device in ieee_devices() {
        let case = Case {
            output_gradient: false,
            carry_gradients: false,
            ..Case::scores(2, 3, steps, width)
        };
        let mut named = case.tensors::<f32>().expect("tensors");
        let clean = values::<f32>(&run(device, &named, &case.options())["o"]);
        let mut scores = values::<f32>(&named["s"]);
        scores[4 * steps + t] = f32::NAN;
        named.insert("s".to_owned(), tensor(scores, &[2, 3, steps]));
        let dirty = values::<f32>(&run(device, &named, &case.options())["o"]);
        for (i, (x, y)) in dirty.iter().zip(&clean).enumerate() {
            let (line, step) = (i / (steps * width), i / width % steps);
            let hit = line == 4 && step >= t;
            assert_eq!(x.is_nan(), hit, "{} line {line} step {step}", device.name());
            assert!(hit || x.to_bits() == y.to_bits(), "{} {line} {step}", device.name());
        }
    }
}

/// Section 9: a score of -∞ has weight 0; before anything is seen, o = 0 and lse = -∞. So it is with
/// masked tokens, whose values do not matter at all.
#[test]
fn nothing_seen_gives_nothing() {
    let (steps, width, first) = (50, 3, 35);
    for device in devices() {
        let case = Case {
            carry: false,
            carry_gradients: false,
            output_gradient: false,
            ..Case::scores(1, 1, steps, width)
        };
        let named = case.tensors::<f32>().expect("tensors");
        let mut low = named.clone();
        let mut scores = values::<f32>(&named["s"]);
        scores[..first].fill(f32::NEG_INFINITY);
        low.insert("s".to_owned(), tensor(scores, &[1, 1, steps]));
        let mut masked = named.clone();
        let mask = (0..steps).map(|t| u8::from(t >= first)).collect();
        masked.insert("mask".to_owned(), tensor::<u8>(mask, &[1, steps]));
        let mut numbers = values::<f32>(&named["v"]);
        numbers[..first * width].fill(1e30);
        masked.insert("v".to_owned(), tensor(numbers, &[1, 1, steps, width]));
        let forms = match device.name().starts_with("wgpu") {
            true => vec![masked],
            false => vec![low, masked],
        };
        let alone = run(device, &steps_of(&named, first..steps), &case.options());
        for form in forms {
            let found = run(device, &form, &case.options());
            let (o, lse) = (values::<f32>(&found["o"]), values::<f32>(&found["lse"]));
            assert!(o[..first * width].iter().all(|o| *o == 0.0), "{}", device.name());
            assert!(lse[..first].iter().all(|lse| *lse == f32::NEG_INFINITY), "{}", device.name());
            let error = distance(&o[first * width..], &values(&alone["o"]));
            assert!(error < PATHS, "{}: {error:e}", device.name());
        }
    }
}

/// Tokens one by one, in slots of their own, and padding among them.
fn steps_are_scan<B: ScanAttention<f32>>(backend: &B, name: &str, keyed: bool) {
    let (steps, width) = (9, 6);
    let case = match keyed {
        true => Case { carry: false, ..Case::keys(2, [4, 2], steps, width) },
        false => Case { carry: false, ..Case::scores(2, 4, steps, width) },
    };
    let named = case.tensors::<f32>().expect("tensors");
    let mut forward = named.clone();
    forward.retain(|name, _| !matches!(name.as_str(), "do" | "du" | "dw"));
    let whole = run(&Device::Cpu(Cpu), &forward, &case.options());
    let mut state = State::<B, f32>::empty(backend, [3, 4, width]).expect("memory");
    // The third entry is padding; the first slot belongs to nobody.
    let slots = Tensor::from_slice(backend, &[2i32, 1, -1], &[3]).expect("memory");
    let at = |name: &str, t: usize| {
        let view = named[name].narrowed(2, t..t + 1).expect("steps");
        let mut numbers = values::<f32>(&view.to_backend(&Cpu).expect("memory"));
        let shape = [&[3], &view.shape()[1..2], &view.shape()[3..]].concat();
        numbers.resize(shape.iter().product(), 7.0);
        Tensor::from_slice(backend, &numbers, &shape).expect("memory")
    };
    for t in 0..steps {
        let v = at("v", t);
        let (s, k, q);
        let scores = match keyed {
            true => {
                k = at("k", t);
                q = Tensor::from_slice(backend, &values::<f32>(&named["q"]), &[4, width]).unwrap();
                Scores::Keys { q: (&q).into(), k: &k }
            }
            false => {
                s = at("s", t);
                Scores::Given((&s).into())
            }
        };
        let state_indices = Some((&slots).into());
        let inputs = StepInputs { scores, v: &v, state_indices, out_indices: None };
        let o = scan_attention::step(&inputs, &Options::default(), &mut state).expect("a step");
        let o = o.to_vec().expect("memory");
        let expected = whole["o"].narrowed(2, t..t + 1).unwrap().to_backend(&Cpu).unwrap();
        let error = distance(&o[..2 * 4 * width], &values(&expected));
        assert!(error < 1e-5, "{name} step {t}: {error:e}");
        assert!(o[2 * 4 * width..].iter().all(|o| *o == 0.0), "{name}: padding");
    }
    let w = state.w.to_vec().expect("memory");
    let (untouched, slots) = w.split_at(4 * width);
    assert!(untouched.iter().all(|w| *w == 0.0), "{name}: a slot of nobody");
    let expected = values::<f32>(&whole["w"]);
    let swapped = [&expected[4 * width..], &expected[..4 * width]].concat();
    assert!(distance(slots, &swapped) < 1e-5, "{name}: the states");
}

#[test]
fn steps_one_by_one_are_the_scan() {
    for device in devices() {
        for keyed in [false, true] {
            let name = device.name();
            match device {
                Device::Cpu(backend) => steps_are_scan(backend, &name, keyed),
                #[cfg(feature = "wgpu")]
                Device::Wgpu(backend) => steps_are_scan(backend, &name, keyed),
                #[cfg(feature = "cuda")]
                Device::Cuda(backend) => steps_are_scan(backend, &name, keyed),
                _ => {}
            }
        }
    }
}

#[test]
fn two_tokens_may_not_share_a_slot() {
    let x = Tensor::from_vec(vec![1.0f32; 2], &[2, 1]).unwrap();
    let v = Tensor::from_vec(vec![1.0f32; 2], &[2, 1, 1]).unwrap();
    let refused = |slots: &[i32; 2], message: &str| {
        let slots = Tensor::from_slice(&Cpu, slots, &[2]).unwrap();
        let scores = Scores::Given((&x).into());
        let state_indices = Some((&slots).into());
        let inputs = StepInputs { scores, v: &v, state_indices, out_indices: None };
        let mut state = State::<Cpu, f32>::empty(&Cpu, [2, 1, 1]).unwrap();
        let error = scan_attention::step(&inputs, &Options::default(), &mut state).unwrap_err();
        assert_eq!(error.to_string(), message);
    };
    refused(&[1, 1], "scan-attention: tensor `state_indices`: expected each slot once, found 1");
    refused(&[0, 2], "scan-attention: tensor `state_indices`: expected slots below 2, found 2");
}

/// The gradients of the f64 reference against central differences of its outputs.
#[test]
fn gradients_are_those_of_the_outputs() {
    let device = Device::Cpu(Cpu);
    for mut case in [Case::scores(2, 2, 7, 3), Case::keys(2, [4, 2], 6, 3)] {
        for documents in [Documents::None, Documents::SeqIdx, Documents::CuSeqlens] {
            case = Case { documents, mask: true, seed: 11, ..case };
            let named = in_f64(&case.tensors::<f32>().expect("tensors")).expect("tensors");
            let found = run(&device, &named, &case.options());
            let loss = |named: &Named<Cpu>| -> f64 {
                let mut forward = named.clone();
                forward.retain(|name, _| !matches!(name.as_str(), "do" | "du" | "dw"));
                let outputs = run(&device, &forward, &case.options());
                // The carry out means (m + log u, w / u): a consumer sees u and w relative to a
                // fixed m.
                let (m, fixed) = (values::<f64>(&outputs["m"]), values::<f64>(&found["m"]));
                let rescaled = |name: &str| -> Vec<f64> {
                    let numbers = values::<f64>(&outputs[name]);
                    let per_head = numbers.len() / m.len();
                    let factor = |i: usize| match fixed[i / per_head] {
                        f64::NEG_INFINITY => 1.0,
                        fixed => (m[i / per_head] - fixed).exp(),
                    };
                    numbers.iter().enumerate().map(|(i, x)| x * factor(i)).collect()
                };
                let product = |x: Vec<f64>, name: &str| -> f64 {
                    x.iter().zip(values::<f64>(&named[name])).map(|(x, y)| x * y).sum()
                };
                product(values(&outputs["o"]), "do")
                    + product(rescaled("u"), "du")
                    + product(rescaled("w"), "dw")
            };
            let pairs = [
                ("s", "ds"),
                ("q", "dq"),
                ("k", "dk"),
                ("v", "dv"),
                ("m0", "dm0"),
                ("u0", "du0"),
                ("w0", "dw0"),
            ];
            for (input, gradient) in pairs.into_iter().filter(|(name, _)| named.contains_key(*name))
            {
                let (numbers, exact) =
                    (values::<f64>(&named[input]), values::<f64>(&found[gradient]));
                for i in 0..numbers.len() {
                    let moved = |by: f64| {
                        let mut moved = named.clone();
                        let mut numbers = numbers.clone();
                        numbers[i] += by;
                        moved.insert(input.to_owned(), tensor(numbers, named[input].shape()));
                        loss(&moved)
                    };
                    let difference = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                    let error = (difference - exact[i]).abs();
                    let scale = exact.iter().fold(1.0f64, |max, x| max.max(x.abs()));
                    assert!(error < 1e-6 * scale, "{gradient}[{i}]: {} {difference}", exact[i]);
                }
            }
        }
    }
}

/// Random forms at random sizes, on every device, against the reference.
#[test]
fn random_cases_pass() {
    let mut random = warpwright::verify::Random::new(2);
    for _ in 0..4 {
        let sizes = Case::keys(2, [2, 1], 1 + random.below(90), 1 + random.below(70)).sizes;
        let case = Case::random(sizes, &mut random);
        for device in devices() {
            let mut complaints = Vec::new();
            run_case(device, &case, |report| complaints.extend(report.complaint()));
            assert!(complaints.is_empty(), "{}: {complaints:?}", device.name());
        }
    }
}

#[test]
fn no_kernel_has_atomics() {
    let kernels = warpwright::backend::kernel::all()
        .filter(|info| info.operation == "scan_attention" && info.language != Language::Wgsl);
    let mut count = 0;
    for info in kernels {
        count += 1;
        let atomic = |line: &&str| line.contains("atom.") || line.contains("red.global");
        let text = info.text();
        assert_eq!(text.lines().find(atomic), None, "{}", info.name);
    }
    assert!(count > 20 || cfg!(not(feature = "cuda")));
}
