//! Wrong input gets one clear line, and loses nothing.

use warpwright::operation::{self, Settings};
use warpwright::selective_scan::state_update::{
    Inputs, Options, OutputsMut, State, update, update_into,
};
use warpwright::verify::selective_scan::state_update::Case;
use warpwright::{Cpu, Error, ErrorKind, Named, Tensor, View};

use super::{floats, indices, tensor};

fn zeros(shape: &[usize]) -> View<Cpu> {
    tensor(vec![0.0; shape.iter().product()], shape)
}

fn plain() -> Case {
    Case { groups: 3, ..Case::plain(3, 6, 5) }
}

fn heads() -> Case {
    Case { steps: Some(2), ..Case::heads(2, 4, 3, 5, 2) }
}

/// Changes the tensors of a good call, and expects this message.
#[track_caller]
fn refused(case: &Case, change: impl FnOnce(&mut Named<Cpu>), message: &str) {
    let operation = operation::find("state-update").expect("it is there");
    let mut tensors = case.tensors::<f32>().expect("tensors");
    operation.check(&tensors, &Settings::default()).expect("they are good");
    change(&mut tensors);
    let error = operation.check(&tensors, &Settings::default()).expect_err(message);
    assert_eq!(error.to_string(), message);
    assert_eq!(error.kind(), ErrorKind::Input);
}

/// Replaces a tensor by zeros of another shape.
#[track_caller]
fn refused_shape(case: &Case, name: &str, shape: &[usize], expected: &str) {
    let list = shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let message =
        format!("state-update: tensor `{name}`: expected {expected}, found shape ({list})");
    refused(case, |tensors| drop(tensors.insert(name.into(), zeros(shape))), &message);
}

#[test]
fn shapes_of_plain_calls_are_checked() {
    let case = plain();
    refused_shape(&case, "state", &[7, 6], "shape (R, D, N) or (R, H, P, N)");
    refused_shape(&case, "state", &[2, 6, 5], "at least B = 3 slots without state_indices");
    refused_shape(&case, "state", &[7, 6, 257], "a state size N of at most 256");
    refused_shape(&case, "x", &[3, 5], "shape (B, D) = (3, 6)");
    refused_shape(&case, "dt", &[3], "shape (B, D) = (3, 6)");
    refused_shape(&case, "z", &[2, 6], "shape (B, D) = (3, 6)");
    refused_shape(&case, "A", &[6, 4], "shape (D, N) = (6, 5)");
    refused_shape(&case, "A", &[5], "shape (D) = (6)");
    refused_shape(&case, "B", &[3, 4, 5], "a number of groups G that divides D = 6");
    refused_shape(&case, "B", &[3], "shape (B, G, N) or (B, N), with M where x has it");
    refused_shape(&case, "C", &[3, 2, 5], "shape (B, G, N) = (3, 3, 5)");
    refused_shape(&case, "D", &[7], "shape (D) = (6)");
    refused_shape(&case, "dt_bias", &[6, 1], "shape (D) = (6)");
}

#[test]
fn shapes_of_calls_with_heads_are_checked() {
    let case = heads();
    refused_shape(&case, "x", &[2, 17, 4, 3], "from 1 to 16 steps M");
    refused_shape(&case, "dt", &[2, 2, 3], "shape (B, M, H) = (2, 2, 4)");
    refused_shape(&case, "B", &[2, 5], "shape (B, M, G, N)");
    refused_shape(&case, "C", &[2, 2, 2, 6], "shape (B, M, G, N) = (2, 2, 2, 5)");
    refused_shape(&case, "A", &[4, 3], "shape (H, P, N) = (4, 3, 5)");
    refused_shape(&case, "D", &[4, 4], "shape (H, P) = (4, 3)");
}

#[test]
fn types_and_names_are_checked() {
    let doubles = |shape: &[usize]| {
        let values = vec![0f64; shape.iter().product()];
        Tensor::from_vec(values, shape).expect("of this shape").into_view()
    };
    refused(
        &plain(),
        |tensors| drop(tensors.insert("A".into(), doubles(&[6, 5]))),
        "state-update: tensor `A`: expected elements f32, found f64",
    );
    refused(
        &plain(),
        |tensors| drop(tensors.insert("state".into(), doubles(&[7, 6, 5]))),
        "state-update: tensor `state`: expected elements f32 or bf16 or f16, found f64",
    );
    refused(
        &plain(),
        |tensors| drop(tensors.insert("state_indices".into(), zeros(&[3]))),
        "state-update: tensor `state_indices`: expected elements i32 or i64 or u32 or u64, found \
         f32",
    );
    refused(
        &plain(),
        |tensors| drop(tensors.insert("delta".into(), zeros(&[3]))),
        "state-update: tensor `delta`: expected one of state x dt A B C D z dt_bias state_indices \
         out_indices, found an unknown tensor",
    );
    refused(
        &plain(),
        |tensors| drop(tensors.remove("state")),
        "state-update: tensor `state`: expected this tensor, found none",
    );
}

/// What the CPU sees: slots that are not there, or that two entries use.
#[test]
fn slots_are_checked() {
    let slots = |name: &'static str, values: Vec<i32>| {
        move |tensors: &mut Named<Cpu>| drop(tensors.insert(name.into(), indices(values, &[3])))
    };
    refused(
        &plain(),
        slots("state_indices", vec![0, 7, 2]),
        "state-update: tensor `state_indices`: expected slots below R = 7, found 7 at position 1",
    );
    refused(
        &plain(),
        slots("state_indices", vec![4, -1, 4]),
        "state-update: tensor `state_indices`: expected each slot written once, found slot 4 at \
         positions 0 and 2",
    );
    refused(
        &plain(),
        slots("out_indices", vec![5, 6, 5]),
        "state-update: tensor `out_indices`: expected each slot written once, found slot 5 at \
         positions 0 and 2",
    );
    refused(
        &plain(),
        slots("out_indices", vec![1, 5, 6]),
        "state-update: tensor `out_indices`: expected slots that no other entry reads, found slot \
         1 at position 0, read at position 1",
    );
}

#[test]
fn options_are_checked() {
    let refused = |key: &str, value: &str| {
        let error = Options::default().set(key, value).expect_err("it is wrong");
        error.to_string()
    };
    assert_eq!(
        refused("dt_softplus", "yes"),
        "state-update: option `dt_softplus`: expected true or false, found yes"
    );
    assert_eq!(
        refused("dt_clamp", "0.1"),
        "state-update: option `dt_clamp`: expected min,max as two numbers, found 0.1"
    );
    assert_eq!(
        refused("dt_clamp", "1,0"),
        "state-update: option `dt_clamp`: expected min <= max, found 1,0"
    );
    assert_eq!(
        refused("layout", "BLD"),
        "state-update: option `layout`: expected one of dt_softplus, dt_clamp, found an unknown \
         option"
    );
}

#[test]
fn states_must_not_lie_over_inputs_or_each_other() {
    let tensors = Case::plain(3, 5, 1).tensors::<f32>().expect("tensors");
    let inputs = Inputs::<Cpu, f32>::from_named(&tensors).expect("good");
    let buffer = inputs.x.buffer().clone();
    let before = floats(&tensors["x"]);
    let mut state =
        Tensor::<Cpu, f32>::from_buffer(&Cpu, buffer.clone(), 0, &[3, 5, 1], &[5, 1, 1])
            .expect("it lies within");
    let error = update(&mut state, &inputs, &Options::default()).expect_err("it lies over x");
    assert!(matches!(error, Error::Aliased { .. }), "{error}");
    let mut state = Tensor::<Cpu, f32>::from_buffer(&Cpu, buffer, 0, &[3, 5, 1], &[0, 1, 1])
        .expect("it lies within");
    let error = update(&mut state, &inputs, &Options::default()).expect_err("one slot for all");
    assert_eq!(
        error.to_string(),
        "state-update: tensor `state`: expected elements that do not share memory, found strides \
         (0, 1, 1) for shape (3, 5, 1)"
    );
    assert_eq!(floats(&tensors["x"]), before);
}

#[test]
fn outputs_are_checked() {
    let tensors = Case::plain(3, 5, 4).tensors::<f32>().expect("tensors");
    let inputs = Inputs::<Cpu, f32>::from_named(&tensors).expect("good");
    let mut state = tensors["state"].clone();
    let before = floats(&state);
    let mut run = |out: &[usize], states: Option<&[usize]>| {
        let mut out = Tensor::new(&Cpu, out).expect("memory");
        let mut states = states.map(zeros);
        let mut outputs = OutputsMut { out: &mut out, states: states.as_mut() };
        let state = State::from_view(&mut state).expect("floats");
        update_into(state, &inputs, &Options::default(), &mut outputs)
            .expect_err("it is wrong")
            .to_string()
    };
    assert_eq!(
        run(&[3, 4], None),
        "state-update: tensor `out`: expected shape (B, D) = (3, 5), found shape (3, 4)"
    );
    assert_eq!(
        run(&[3, 5], Some(&[3, 5, 4])),
        "state-update: tensor `states`: expected shape (B, M, D, N) = (3, 1, 5, 4), found shape \
         (3, 5, 4)"
    );
    assert_eq!(floats(&state), before);
}

#[test]
fn a_variant_that_is_not_there_is_told_what_is() {
    let tensors = plain().tensors::<f32>().expect("tensors");
    let inputs = Inputs::<Cpu, f32>::from_named(&tensors).expect("good");
    let mut state = tensors["state"].clone();
    let state = State::from_view(&mut state).expect("floats");
    let options = Options::default().with_variant("state_update_fast");
    let error = update(state, &inputs, &options).expect_err("there is none");
    assert_eq!(
        error.to_string(),
        "state-update: cpu does not support variant `state_update_fast` for this call; use \
         state_update_simd"
    );
}
