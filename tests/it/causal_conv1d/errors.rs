//! Wrong input gets one clear line, and loses nothing.

use warpwright::causal_conv1d::{
    self, Inputs, Options, OutputsMut, Resets, check_named, run_named, update,
};
use warpwright::verify::causal_conv1d::{Case, UpdateCase};
use warpwright::{Cpu, Device, Error, ErrorKind, Named, Tensor, View};

use super::{floats, indices};

fn zeros(shape: &[usize]) -> View<Cpu> {
    super::tensor(vec![0.0; shape.iter().product()], shape)
}

/// Changes the tensors of a good call, and expects this message.
#[track_caller]
fn refused(change: impl FnOnce(&mut Named<Cpu>), message: &str) {
    let mut tensors = Case::new(2, 6, 10, 4).tensors::<f32>().expect("tensors");
    check_named(&tensors, &Options::default()).expect("they are good");
    change(&mut tensors);
    let error = check_named(&tensors, &Options::default()).expect_err(message);
    assert_eq!(error.to_string(), message);
    assert_eq!(error.kind(), ErrorKind::Input);
}

#[test]
fn shapes_are_checked() {
    refused(
        |tensors| drop(tensors.insert("x".into(), zeros(&[2, 6]))),
        "causal-conv1d: tensor `x`: expected shape (B, D, L), found shape (2, 6)",
    );
    refused(
        |tensors| drop(tensors.insert("weight".into(), zeros(&[5, 4]))),
        "causal-conv1d: tensor `weight`: expected shape (D, W) = (6, 4), found shape (5, 4)",
    );
    for width in [0, 9] {
        refused(
            |tensors| drop(tensors.insert("weight".into(), zeros(&[6, width]))),
            &format!(
                "causal-conv1d: tensor `weight`: expected shape (D, W) with D = 6 and W from 1 to \
                 8, found shape (6, {width})"
            ),
        );
    }
    refused(
        |tensors| drop(tensors.insert("bias".into(), zeros(&[1]))),
        "causal-conv1d: tensor `bias`: expected shape (D) = (6), found shape (1)",
    );
    refused(
        |tensors| drop(tensors.insert("s0".into(), zeros(&[2, 6, 4]))),
        "causal-conv1d: tensor `s0`: expected shape (B, D, W - 1) = (2, 6, 3), found shape (2, 6, 4)",
    );
    refused(
        |tensors| drop(tensors.insert("dfinal_state".into(), zeros(&[2, 6, 2]))),
        "causal-conv1d: tensor `dfinal_state`: expected shape (B, D, W - 1) = (2, 6, 3), found \
         shape (2, 6, 2)",
    );
    refused(
        |tensors| drop(tensors.insert("dout".into(), zeros(&[2, 6, 9]))),
        "causal-conv1d: tensor `dout`: expected shape (B, D, L) = (2, 6, 10), found shape (2, 6, 9)",
    );
    refused(
        |tensors| drop(tensors.insert("seq_idx".into(), indices(vec![0; 10], &[1, 10]))),
        "causal-conv1d: tensor `seq_idx`: expected shape (B, L) = (2, 10), found shape (1, 10)",
    );
    refused(
        |tensors| drop(tensors.insert("cu_seqlens".into(), indices(vec![0, 5, 10], &[3]))),
        "causal-conv1d: tensor `x`: expected B = 1 with cu_seqlens, all 10 steps in one row, found \
         shape (2, 6, 10)",
    );
}

#[test]
fn types_and_names_are_checked() {
    refused(
        |tensors| {
            let wide = Tensor::from_vec(vec![0f64; 24], &[6, 4]).expect("shape");
            tensors.insert("weight".into(), wide.into_view());
        },
        "causal-conv1d: tensor `weight`: expected elements f32, found f64",
    );
    refused(
        |tensors| drop(tensors.remove("weight")),
        "causal-conv1d: tensor `weight`: expected this tensor, found none",
    );
    refused(
        |tensors| drop(tensors.insert("reset".into(), zeros(&[1]))),
        "causal-conv1d: tensor `reset`: expected one of x weight bias s0 seq_idx cu_seqlens dout \
         dfinal_state, found an unknown tensor",
    );
    refused(
        |tensors| {
            tensors.insert("seq_idx".into(), indices(vec![0; 20], &[2, 10]));
            tensors.insert("cu_seqlens".into(), indices(vec![0, 10], &[2]));
        },
        "causal-conv1d: tensor `seq_idx`: expected at most one of seq_idx, cu_seqlens, found \
         cu_seqlens as well",
    );
}

#[test]
fn flags_are_no_documents_of_a_convolution() {
    let tensors = Case::new(1, 2, 10, 4).tensors::<f32>().expect("tensors");
    let flags = Tensor::from_vec(vec![0u8; 10], &[1, 10]).expect("shape");
    let inputs =
        Inputs::<Cpu, f32>::from_named(&tensors).expect("good").with_resets(Resets::Flags(&flags));
    let error = causal_conv1d::forward(&inputs, &Options::default()).expect_err("flags");
    assert!(error.to_string().contains("told apart by seq_idx or cu_seqlens"), "{error}");
}

/// An error that the CPU finds late, in the values of an input, leaves the outputs as they were;
/// and so does one that lies over an input.
#[test]
fn a_failed_call_leaves_outputs_as_they_were() {
    let case = Case { s0: false, ..Case::new(1, 2, 10, 4) };
    let tensors = case.tensors::<f32>().expect("tensors");
    let bounds = Tensor::from_vec(vec![0i32, 12, 10], &[3]).expect("shape");
    let inputs = Inputs::<Cpu, f32>::from_named(&tensors)
        .expect("good")
        .with_resets(Resets::CuSeqlens((&bounds).into()));
    let mut out = Tensor::from_vec(vec![7f32; 20], &[1, 2, 10]).expect("shape");
    let mut outputs = OutputsMut { out: &mut out, final_state: None };
    let error = causal_conv1d::forward_into(&inputs, &Options::default(), &mut outputs)
        .expect_err("cu_seqlens falls");
    assert_eq!(
        error.to_string(),
        "causal-conv1d: tensor `cu_seqlens`: expected values that rise from 0 to L = 10, found 10 \
         after 12 at position 2"
    );
    assert_eq!(out.to_vec().expect("not in use"), [7.0; 20]);

    let inputs = Inputs::<Cpu, f32>::from_named(&tensors).expect("good");
    let mut over = inputs.x.clone();
    let mut outputs = OutputsMut { out: &mut over, final_state: None };
    let error = causal_conv1d::forward_into(&inputs, &Options::default(), &mut outputs)
        .expect_err("out lies over x");
    assert_eq!(
        error,
        Error::Aliased { operation: "causal-conv1d", written: "out".into(), other: "x".into() }
    );
}

#[test]
fn unknown_variants_name_the_known_ones() {
    let tensors = Case::new(1, 2, 10, 4).tensors::<f32>().expect("tensors");
    let options = Options::default().with_variant("causal_conv1d_fast");
    let error = run_named(&Device::Cpu(Cpu), &tensors, &options).expect_err("no such variant");
    assert_eq!(
        error.to_string(),
        "causal-conv1d: cpu does not support variant `causal_conv1d_fast` for this call; use \
         causal_conv1d_forward_simd"
    );
}

/// Changes the tensors of a good update, and expects this message.
#[track_caller]
fn refused_update(change: impl FnOnce(&mut Named<Cpu>), message: &str) {
    let case = UpdateCase { circular: true, ..UpdateCase::new(3, 5, 4, 3) };
    let mut tensors = case.tensors::<f32>().expect("tensors");
    update::check_named(&tensors, &Options::default()).expect("they are good");
    change(&mut tensors);
    let error = update::check_named(&tensors, &Options::default()).expect_err(message);
    assert_eq!(error.to_string(), message);
    assert_eq!(error.kind(), ErrorKind::Input);
}

#[test]
fn updates_are_checked() {
    refused_update(
        |tensors| drop(tensors.insert("conv_state".into(), zeros(&[3, 5, 2]))),
        "causal-conv1d-update: tensor `conv_state`: expected shape (R, D, K) with D = 5 and K >= W \
         - 1 = 3, found shape (3, 5, 2)",
    );
    refused_update(
        |tensors| drop(tensors.insert("conv_state".into(), zeros(&[2, 5, 3]))),
        "causal-conv1d-update: tensor `conv_state`: expected a slot for each of B = 3 entries, or \
         state_indices, found shape (2, 5, 3)",
    );
    refused_update(
        |tensors| drop(tensors.insert("x".into(), zeros(&[3]))),
        "causal-conv1d-update: tensor `x`: expected shape (B, D) or (B, D, S), found shape (3)",
    );
    refused_update(
        |tensors| drop(tensors.insert("state_indices".into(), indices(vec![0, 2, 2], &[3]))),
        "causal-conv1d-update: tensor `state_indices`: expected slots below R = 3, each once, or \
         negative, found 2 at position 2",
    );
    refused_update(
        |tensors| drop(tensors.insert("state_indices".into(), indices(vec![0, 3, 2], &[3]))),
        "causal-conv1d-update: tensor `state_indices`: expected slots below R = 3, each once, or \
         negative, found 3 at position 1",
    );
    refused_update(
        |tensors| drop(tensors.insert("cache_seqlens".into(), indices(vec![0, 1, -1], &[3]))),
        "causal-conv1d-update: tensor `cache_seqlens`: expected positions that are not negative, \
         found -1 at position 2",
    );
    refused_update(
        |tensors| drop(tensors.remove("conv_state")),
        "causal-conv1d-update: tensor `conv_state`: expected this tensor, found none",
    );
}

#[test]
fn a_state_must_not_lie_over_an_input() {
    let tensors = UpdateCase::new(3, 5, 2, 1).tensors::<f32>().expect("tensors");
    let inputs = update::Inputs::<Cpu, f32>::from_named(&tensors).expect("good");
    // x is (3, 5), and so is a state of one entry.
    let buffer = inputs.x.buffer().clone();
    let mut state = Tensor::<Cpu, f32>::from_buffer(&Cpu, buffer, 0, &[3, 5, 1], &[5, 1, 1])
        .expect("it lies within");
    let before = floats(&tensors["x"]);
    let error = update::update(&inputs, (&mut state).into(), &Options::default())
        .expect_err("the state lies over x");
    assert!(matches!(error, Error::Aliased { .. }), "{error}");
    assert_eq!(floats(&tensors["x"]), before);
}
