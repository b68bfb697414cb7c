//! Copies and sums of lines of any strides, on every device.

use proptest::prelude::*;
use warpwright::backend::Backend;
use warpwright::collective::Lines;
use warpwright::{Cpu, DType, Device, Element, Tensor, View, bf16, f16};

use crate::devices::{devices, on_backend};

/// A tensor of a device, and the part of it that is meant.
struct Part<B: Backend> {
    whole: View<B>,
    part: View<B>,
}

/// Where a part lies in its tensor: the order of the axes, and what is left out before and after it.
#[derive(Clone, Debug)]
struct Place {
    order: Vec<usize>,
    margins: Vec<[usize; 2]>,
}

impl Place {
    /// All of a tensor in order.
    fn whole(axes: usize) -> Self {
        Self { order: (0..axes).collect(), margins: vec![[0, 0]; axes] }
    }

    /// A part of this shape, in a tensor of numbers that differ from element to element.
    fn part<B: Backend, T: Number>(&self, backend: &B, shape: &[usize], seed: usize) -> Part<B> {
        let outer = |axis: usize| shape[axis] + self.margins[axis][0] + self.margins[axis][1];
        let lengths: Vec<usize> = self.order.iter().map(|&axis| outer(axis)).collect();
        let count = lengths.iter().product();
        let numbers: Vec<T> = (0..count).map(|i| T::number(31 * i + seed)).collect();
        let tensor = Tensor::from_slice(backend, &numbers, &lengths).expect("shape");
        let whole = tensor.into_view();
        let mut part = whole.clone();
        let mut order = self.order.clone();
        for axis in 0..order.len() {
            let found = order.iter().position(|&other| other == axis).expect("an order");
            part = part.transposed(axis, found).expect("axes");
            order.swap(axis, found);
        }
        for (axis, [before, _]) in self.margins.iter().enumerate() {
            part = part.narrowed(axis, *before..before + shape[axis]).expect("margins");
        }
        Part { whole, part }
    }
}

#[derive(Clone, Copy, Debug)]
enum Work {
    Copy,
    Add,
    Max,
}

trait Number: Element {
    fn number(i: usize) -> Self;
}

macro_rules! numbers {
    ($($element:ty: $i:ident => $number:expr),* $(,)?) => {
        $(impl Number for $element {
            fn number($i: usize) -> Self {
                $number
            }
        })*
    };
}

numbers! {
    u8: i => (i % 251) as u8,
    f16: i => f16::from_bits((i % 0x7bff) as u16),
    bf16: i => bf16::from_bits((i % 0x7f7f) as u16),
    f32: i => (i % 997) as f32 * 1.001 - 400.0,
    i64: i => (i as i64) << 33 | i as i64,
}

fn values<B: Backend, T: Element>(view: &View<B>) -> Vec<T> {
    view.typed::<T>().expect("its type").to_vec().expect("it is read")
}

/// Copies or adds a part on a device and on the CPU: the results agree to the bit, outside the part, too.
fn check<B: Lines, S: Number, D: Number>(
    backend: &B,
    shape: &[usize],
    [from, to]: [&Place; 2],
    work: Work,
) {
    fn done<B: Lines>(backend: &B, [from, to]: [&View<B>; 2], work: Work) {
        let done = match work {
            Work::Copy => backend.copy_lines(from, to),
            Work::Add => backend.add_lines(from, to),
            Work::Max => backend.max_lines(from, to),
        };
        done.unwrap_or_else(|error| panic!("{}: {error}", backend.name()));
    }
    let (source, target) =
        (from.part::<B, S>(backend, shape, 3), to.part::<B, D>(backend, shape, 5));
    done(backend, [&source.part, &target.part], work);
    let expected = [from.part::<Cpu, S>(&Cpu, shape, 3), to.part::<Cpu, D>(&Cpu, shape, 5)];
    done(&Cpu, [&expected[0].part, &expected[1].part], work);
    let (found, expected) = (values::<B, D>(&target.whole), values::<Cpu, D>(&expected[1].whole));
    let wrong = found.iter().zip(&expected).position(|(found, expected)| found != expected);
    if let Some(i) = wrong {
        let what = format!("{} to {}, {shape:?}, {from:?} to {to:?}", S::DTYPE, D::DTYPE);
        let (found, expected) = (found[i], expected[i]);
        panic!("{}, {what}, {work:?}: element {i} is {found:?}, not {expected:?}", backend.name());
    }
}

/// Every kind of line.
fn check_kinds(device: &Device, shape: &[usize], places: [&Place; 2]) {
    on_backend!(device, |backend| {
        check::<_, u8, u8>(backend, shape, places, Work::Copy);
        check::<_, f16, f16>(backend, shape, places, Work::Copy);
        check::<_, bf16, bf16>(backend, shape, places, Work::Copy);
        check::<_, f32, f32>(backend, shape, places, Work::Copy);
        check::<_, i64, i64>(backend, shape, places, Work::Copy);
        check::<_, f32, bf16>(backend, shape, places, Work::Copy);
        check::<_, f32, f16>(backend, shape, places, Work::Copy);
        check::<_, f32, f32>(backend, shape, places, Work::Add);
        check::<_, f32, f32>(backend, shape, places, Work::Max);
    });
}

/// The CPU by itself, on a copy and a sum that can be told without it.
#[test]
fn lines_of_the_cpu_are_those_that_were_meant() {
    let whole = Place::whole(4).part::<Cpu, f32>(&Cpu, &[2, 5, 3, 4], 0).whole;
    for (axis, range) in [(0, 1..2), (1, 1..4), (2, 0..2), (3, 1..2), (1, 2..2)] {
        let part = whole.narrowed(axis, range.clone()).unwrap().transposed(1, 2).unwrap();
        let packed = Place::whole(4).part::<Cpu, f32>(&Cpu, part.shape(), 1).whole;
        Cpu.copy_lines(&part, &packed).unwrap();
        let expected = values::<Cpu, f32>(&part);
        assert_eq!(values::<Cpu, f32>(&packed), expected, "axis {axis}, {range:?}");
        let sum = Place::whole(4).part::<Cpu, f32>(&Cpu, &[2, 5, 3, 4], 0).whole;
        let sum_part = sum.narrowed(axis, range.clone()).unwrap().transposed(1, 2).unwrap();
        Cpu.add_lines(&packed, &sum_part).unwrap();
        let twice: Vec<f32> = expected.iter().map(|x| 2.0 * x).collect();
        assert_eq!(values::<Cpu, f32>(&sum_part), twice, "axis {axis}, {range:?}");
    }
}

#[test]
fn sums_are_rounded_once_and_to_even() {
    let values = [1.0f32, 1.0 + 2f32.powi(-9), -3.5e-5, 65519.0, 65520.0, f32::INFINITY, 0.0, -0.0];
    for device in devices() {
        on_backend!(device, |backend| {
            let from = Tensor::from_slice(backend, &values, &[8]).unwrap();
            let narrow = Tensor::from_slice(backend, &[bf16::ZERO; 8], &[8]).unwrap();
            backend.copy_lines(&from, &narrow).unwrap();
            assert_eq!(narrow.to_vec().unwrap(), values.map(bf16::from_f32), "{}", device.name());
            let half = Tensor::from_slice(backend, &[f16::ZERO; 8], &[8]).unwrap();
            backend.copy_lines(&from, &half).unwrap();
            assert_eq!(half.to_vec().unwrap(), values.map(f16::from_f32), "{}", device.name());
        });
    }
}

#[test]
fn lines_of_every_device_are_those_of_the_cpu() {
    let whole = Place::whole(4);
    let heads_first = Place { order: vec![0, 2, 1, 3], ..whole.clone() };
    let margins = Place { margins: vec![[0, 1], [2, 3], [1, 0], [0, 0]], ..whole.clone() };
    let odd = Place { margins: vec![[0, 0], [0, 1], [0, 0], [1, 2]], ..whole.clone() };
    let columns = Place { order: vec![3, 1, 2, 0], ..odd.clone() };
    let none = vec![2, 0, 3, 4];
    for device in devices() {
        for shape in [vec![2, 5, 3, 16], vec![1, 7, 2, 5], vec![3, 1, 1, 1], none.clone()] {
            for places in [
                [&whole, &whole],
                [&heads_first, &whole],
                [&margins, &heads_first],
                [&odd, &margins],
                [&columns, &odd],
                [&whole, &columns],
            ] {
                check_kinds(device, &shape, places);
            }
        }
        // More than a piece of a run, and than a block of runs.
        check_kinds(device, &[1, 1, 1, 20_000], [&odd, &whole]);
        check_kinds(device, &[300, 2, 2, 9], [&whole, &margins]);
    }
}

fn place(axes: usize) -> impl Strategy<Value = Place> {
    let order = Just((0..axes).collect::<Vec<_>>()).prop_shuffle();
    let margins = proptest::collection::vec([0usize..3, 0usize..3], axes);
    (order, margins).prop_map(|(order, margins)| Place { order, margins })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn lines_of_any_shape_and_place_are_alike_everywhere(
        shape in proptest::collection::vec(1usize..9, 4),
        from in place(4),
        to in place(4),
    ) {
        for device in devices() {
            check_kinds(device, &shape, [&from, &to]);
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    for device in devices() {
        on_backend!(device, |backend| {
            let part =
                |shape: &[usize]| Place::whole(shape.len()).part::<_, f32>(backend, shape, 0);
            let from = part(&[3]).whole;
            let message = |to: &View<_>| backend.copy_lines(&from, to).unwrap_err().to_string();
            let longer = message(&part(&[4]).whole);
            assert!(longer.contains("expected shape (3), found shape (4)"), "{longer}");
            let whole = View::new(backend, DType::I32, &[3]).unwrap();
            assert!(message(&whole).contains("found i32 from f32"));
            let error = backend.add_lines(&whole, &whole.clone()).unwrap_err().to_string();
            assert!(error.contains("shares memory") || error.contains("f32 and f32"), "{error}");
            let line = part(&[6]).whole;
            let (first, second) =
                (line.narrowed(0, 0..4).unwrap(), line.narrowed(0, 2..6).unwrap());
            let error = backend.copy_lines(&first, &second).unwrap_err();
            assert!(matches!(error, warpwright::Error::Aliased { .. }), "{error}");
        });
    }
}
