//! What holds for every cross entropy: section 8.2 of the specification.

use std::time::Duration;

use warpwright::backend::in_f64;
use warpwright::collective::{Communicator, Fault, Local};
use warpwright::cross_entropy::{
    self, Gradients, Inputs, Options, Reduction, backward_among, forward_among, run_named,
};
use warpwright::verify::cross_entropy::{Case, Sizes, Targets, run_case};
use warpwright::{Cpu, DType, Device, Element, Error, Named, Tensor, View};

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
    let ran = run_named(device, named, options, 1);
    ran.unwrap_or_else(|error| panic!("{}: {error}", device.name())).outputs
}

/// Everything at once, of logits and of a linear layer.
fn everything() -> [Case; 2] {
    let of = |case| Case {
        label_smoothing: 0.1,
        z_loss: 1e-2,
        softcap: Some(3.0),
        reduction: Reduction::None,
        ..case
    };
    [of(Case::given(7, 300)), of(Case::linear(7, 70, 21))]
}

#[test]
fn repeated_runs_give_equal_bits() {
    for device in devices() {
        for case in
            [Case::given(33, 1500), Case::linear(70, 150, 40)].into_iter().chain(everything())
        {
            let named = case.tensors::<f32>().expect("tensors");
            let [first, second] = [(); 2].map(|()| run(device, &named, &case.options()));
            for (name, view) in &first {
                let (bits, again) = (view.to_bytes().unwrap(), second[name].to_bytes().unwrap());
                assert!(bits == again, "{name} on {}", device.name());
            }
        }
    }
}

/// The gradients of the f64 reference against central differences of its loss.
#[test]
fn gradients_are_those_of_the_loss() {
    let device = Device::Cpu(Cpu);
    let small = [Case::given(5, 6), Case::linear(5, 6, 3)];
    let reduced = [Reduction::Mean, Reduction::Sum, Reduction::None];
    for (case, reduction) in small.iter().flat_map(|case| reduced.map(|one| (case, one))) {
        for (label_smoothing, z_loss, softcap) in [(0.0, 0.0, None), (0.2, 0.05, Some(1.5))] {
            let case = Case { label_smoothing, z_loss, softcap, reduction, ..case.clone() };
            let named = in_f64(&case.tensors::<f32>().expect("tensors")).expect("tensors");
            let found = run(&device, &named, &case.options());
            let loss = |named: &Named<Cpu>| -> f64 {
                let mut forward = named.clone();
                forward.remove("dloss");
                let loss = values::<f64>(&run(&device, &forward, &case.options())["loss"]);
                loss.iter().zip(values::<f64>(&named["dloss"])).map(|(x, y)| x * y).sum()
            };
            for (input, gradient) in [("logits", "dlogits"), ("x", "dx"), ("weight", "dweight")] {
                let Some(view) = named.get(input) else { continue };
                let (numbers, exact) = (values::<f64>(view), values::<f64>(&found[gradient]));
                for i in 0..numbers.len() {
                    let moved = |by: f64| {
                        let (mut moved, mut numbers) = (named.clone(), numbers.clone());
                        numbers[i] += by;
                        moved.insert(input.to_owned(), tensor(numbers, view.shape()));
                        loss(&moved)
                    };
                    let difference = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                    let error = (difference - exact[i]).abs();
                    assert!(
                        error < 1e-8,
                        "{gradient}[{i}], {}: {difference} {}",
                        case.describe(),
                        exact[i]
                    );
                }
            }
        }
    }
}

/// A logit that is no number spoils its token's lse, loss and gradients, and nothing else.
#[test]
fn a_nan_stays_in_its_row() {
    let (tokens, columns, spoilt) = (6, 1100, 2);
    for device in ieee_devices() {
        let case = Case {
            reduction: Reduction::None,
            targets: Targets::Columns,
            ..Case::given(tokens, columns)
        };
        let mut named = case.tensors::<f32>().expect("tensors");
        let clean = run(device, &named, &case.options());
        for column in [0, 3, 517, columns - 1] {
            let mut logits = values::<f32>(&case.tensors::<f32>().expect("tensors")["logits"]);
            logits[spoilt * columns + column] = f32::NAN;
            named.insert("logits".to_owned(), tensor(logits, &[tokens, columns]));
            let dirty = run(device, &named, &case.options());
            for (name, width) in [("loss", 1), ("lse", 1), ("dlogits", columns)] {
                let [x, y] = [&dirty, &clean].map(|outputs| values::<f32>(&outputs[name]));
                for (i, (x, y)) in x.iter().zip(&y).enumerate() {
                    let hit = i / width == spoilt;
                    assert_eq!(x.is_nan(), hit, "{name}[{i}] on {}", device.name());
                    assert!(hit || x.to_bits() == y.to_bits(), "{name}[{i}] on {}", device.name());
                }
            }
        }
    }
}

/// What is not a column of an ignored token may be anything.
#[test]
fn ignored_tokens_have_no_gradient_whatever_they_hold() {
    for device in ieee_devices() {
        let case = Case { targets: Targets::AllIgnored, ..Case::given(3, 70) };
        let mut named = case.tensors::<f32>().expect("tensors");
        named.insert("logits".to_owned(), tensor(vec![f32::NAN; 210], &[3, 70]));
        let found = run(device, &named, &case.options());
        assert_eq!(values::<f32>(&found["loss"]), [0.0], "{}", device.name());
        assert!(values::<f32>(&found["dlogits"]).iter().all(|dz| *dz == 0.0), "{}", device.name());
        assert!(values::<f32>(&found["lse"]).iter().all(|lse| lse.is_nan()), "{}", device.name());
    }
}

/// -∞ counts for nothing, +∞ for everything, on every device that knows them.
#[test]
fn infinite_logits_are_what_they_are() {
    let (low, high) = (f32::NEG_INFINITY, f32::INFINITY);
    for device in ieee_devices() {
        // Rows that are cut among blocks, too.
        for columns in [3, 700, 40_000] {
            let mut logits = vec![low; 4 * columns];
            logits[columns..][..3].copy_from_slice(&[low, 0.5, low]);
            logits[2 * columns..][..3].copy_from_slice(&[1.0, high, low]);
            logits[3 * columns..][..3].copy_from_slice(&[2.0, 2.0, low]);
            let mut named = Named::<Cpu>::new();
            named.insert("logits".to_owned(), tensor(logits, &[4, columns]));
            named.insert("target".to_owned(), tensor(vec![0i64, 1, 0, 1], &[4]));
            named.insert("dloss".to_owned(), tensor(vec![1.0f32; 4], &[4]));
            let options = Options::default().with_reduction(Reduction::None);
            let found = run(device, &named, &options);
            let (loss, lse) = (values::<f32>(&found["loss"]), values::<f32>(&found["lse"]));
            let what = format!("{} {columns}: {lse:?} {loss:?}", device.name());
            assert_eq!([lse[0], lse[1], lse[2]], [low, 0.5, high], "{what}");
            assert!((lse[3] - 2.0 - 2f32.ln()).abs() < 1e-6, "{what}");
            assert!(loss[0].is_nan() && loss[2] == high, "{what}");
            assert!(loss[1] == 0.0 && (loss[3] - 2f32.ln()).abs() < 1e-6, "{what}");
            let dz = values::<f32>(&found["dlogits"]);
            let of_finite = &dz[columns..2 * columns];
            assert!(of_finite.iter().all(|dz| *dz == 0.0), "{what}: all is on the target");
            assert!((dz[3 * columns] - 0.5).abs() < 1e-6, "{what}");
        }
    }
}

/// Cut in any way, the vocabulary gives the same within the tolerance.
#[test]
fn shards_change_nothing() {
    for case in everything() {
        let named = case.tensors::<f32>().expect("tensors");
        let device = Device::Cpu(Cpu);
        let alone = run(&device, &named, &case.options());
        for shards in [2, 3, 5, 64] {
            let cut = run_named(&device, &named, &case.options(), shards).expect("it runs").outputs;
            assert_eq!(cut.keys().collect::<Vec<_>>(), alone.keys().collect::<Vec<_>>());
            for (name, view) in &alone {
                let [x, y] = [&cut[name], view].map(values::<f32>);
                let largest = y.iter().fold(1.0f32, |max, y| max.max(y.abs()));
                let apart = x.iter().zip(&y).fold(0.0f32, |max, (x, y)| max.max((x - y).abs()));
                assert!(apart <= 8e-6 * largest, "{name} of {shards} shards: {apart:e}");
            }
        }
    }
}

/// Ranks that are not in the same call, or whose columns are not the vocabulary, all hear of it.
#[test]
fn ranks_that_differ_are_told() {
    let call = |shard: fn(usize) -> Options| {
        Local::<Cpu>::run(2, |ranks| {
            let logits = Tensor::from_vec(vec![0.5f32; 6], &[2, 3])?;
            let target = Tensor::from_vec(vec![0i64, 4], &[2])?;
            let inputs = Inputs::new(&logits, &target);
            forward_among(&ranks, &inputs, &shard(ranks.rank()))?.loss.to_vec()
        })
    };
    let good = call(|rank| Options::default().with_shard(3 * rank, 6));
    for loss in good {
        assert!((loss.expect("it fits")[0] - 6f32.ln()).abs() < 1e-6);
    }
    for overlapping in call(|rank| Options::default().with_shard(2 * rank, 6)) {
        let error = overlapping.expect_err("column 2 is on both").to_string();
        assert!(
            error.contains("expected columns 0 to 6, each on one rank, found 0..3, 2..5"),
            "{error}"
        );
    }
    for differing in call(|rank| {
        Options::default().with_shard(3 * rank, 6).with_label_smoothing(0.1 * rank as f32)
    }) {
        let error = differing.expect_err("the smoothing differs");
        let is_mismatch = |fault: &Fault| {
            matches!(fault, Fault::DescriptorMismatch { field: "label_smoothing", .. })
        };
        assert!(
            matches!(&error, Error::Communication { fault, .. } if is_mismatch(fault)),
            "{error}"
        );
    }
    let errors = call(|rank| Options::default().with_shard(3 * rank, 5));
    let [first, second] = errors.try_into().expect("two ranks");
    let second = second.expect_err("3 and 3 are more than 5").to_string();
    assert!(second.contains("columns within a vocabulary of 5"), "{second}");
    assert!(first.expect_err("the other has given up").to_string().contains("rank 1"));
}

/// A rank that calls the other pass, or none, is no hang.
#[test]
fn ranks_in_other_calls_are_told() {
    let ends = Local::<Cpu>::run(2, |ranks| {
        let rank = ranks.rank();
        let ranks = ranks.with_deadline(Some(Duration::from_secs(5)));
        let logits = Tensor::from_vec(vec![0.5f32; 6], &[2, 3])?;
        let target = Tensor::from_vec(vec![0i64, 4], &[2])?;
        let inputs = Inputs::new(&logits, &target);
        let options = Options::default().with_shard(3 * rank, 6);
        let lse = Tensor::from_vec(vec![6f32.ln() + 0.5; 2], &[2])?;
        let dloss = Tensor::from_vec(vec![1.0f32], &[1])?;
        match rank {
            0 => forward_among(&ranks, &inputs, &options).map(drop),
            _ => backward_among(&ranks, &inputs, &options, &lse, &dloss).map(drop),
        }
    });
    for end in ends {
        let error = end.expect_err("the passes differ").to_string();
        assert!(error.contains("`pass`: forward, backward"), "{error}");
    }
}

/// One rank among itself is a plain call, to the bit.
#[test]
fn a_rank_alone_is_a_plain_call() {
    for case in everything() {
        let named = case.tensors::<f32>().expect("tensors");
        let mut inputs = named.clone();
        let dloss = inputs.remove("dloss").expect("it is there").typed::<f32>().expect("f32");
        let (inputs, options) =
            (Inputs::<Cpu, f32>::from_named(&inputs).expect("good"), case.options());
        let [ranks] = <[_; 1]>::try_from(Local::<Cpu>::group(1)).expect("one");
        let alone = cross_entropy::forward(&inputs, &options).expect("it runs");
        let among = forward_among(&ranks, &inputs, &options).expect("it runs");
        assert_eq!(alone.loss.to_vec(), among.loss.to_vec());
        assert_eq!(alone.lse.to_vec(), among.lse.to_vec());
        let alone =
            cross_entropy::backward(&inputs, &options, &alone.lse, &dloss).expect("it runs");
        let among = backward_among(&ranks, &inputs, &options, &among.lse, &dloss).expect("it runs");
        match (alone, among) {
            (Gradients::Given(x), Gradients::Given(y)) => assert_eq!(x.to_vec(), y.to_vec()),
            (Gradients::Linear { x, weight }, Gradients::Linear { x: dx, weight: dweight }) => {
                assert_eq!((x.to_vec(), weight.to_vec()), (dx.to_vec(), dweight.to_vec()));
            }
            _ => panic!("of the same inputs"),
        }
    }
}

/// Random forms at random sizes, on every device, against the reference.
#[test]
fn random_cases_pass() {
    let mut random = warpwright::verify::Random::new(7);
    for _ in 0..5 {
        let width = random.chance(0.5).then(|| 1 + random.below(70));
        let sizes = Sizes { tokens: random.below(50), vocabulary: 1 + random.below(200), width };
        let case = Case::random(sizes, &mut random);
        for device in devices() {
            let mut complaints = Vec::new();
            run_case(device, &case, |report| complaints.extend(report.complaint()));
            assert!(complaints.is_empty(), "{}: {complaints:?}", device.name());
        }
    }
}

/// The low half of a wide target is not the target.
#[test]
fn wide_targets_count_whole() {
    for device in devices() {
        for (index, ignored) in [(DType::I64, true), (DType::U64, true), (DType::I32, false)] {
            let case = Case { index, reduction: Reduction::None, ..Case::given(2, 9) };
            let mut named = case.tensors::<f32>().expect("tensors");
            let wide = [(1i64 << 32) + 4, 4];
            let target = match index {
                DType::I64 => tensor(wide.to_vec(), &[2]),
                DType::U64 => tensor(wide.map(|x| x as u64).to_vec(), &[2]),
                _ => tensor(wide.map(|x| x as i32).to_vec(), &[2]),
            };
            named.insert("target".to_owned(), target);
            named.remove("dloss");
            let loss = values::<f32>(
                &run(device, &named, &Options::default().with_reduction(Reduction::None))["loss"],
            );
            assert_eq!(loss[0] == 0.0, ignored, "{index} on {}: {loss:?}", device.name());
            assert!(loss[1] > 0.0, "{index} on {}: {loss:?}", device.name());
        }
    }
}
