//! Wrong input gets one clear line, and loses nothing.

use warpwright::selective_scan::{self, Inputs, Options, OutputsMut, Resets, check_named};
use warpwright::verify::selective_scan::Case;
use warpwright::{Cpu, Error, ErrorKind, Named, Tensor, View};

fn named() -> Named<Cpu> {
    Case::new(2, 6, 10, 5, 2).tensors::<f32>().expect("tensors")
}

fn zeros(shape: &[usize]) -> View<Cpu> {
    Tensor::from_vec(vec![0f32; shape.iter().product()], shape).expect("shape").into_view()
}

fn indices(values: &[i64], shape: &[usize]) -> View<Cpu> {
    Tensor::from_slice(&Cpu, values, shape).expect("shape").into_view()
}

/// Changes the tensors of a good call, and expects this message.
#[track_caller]
fn refused(change: impl FnOnce(&mut Named<Cpu>), message: &str) {
    let mut tensors = named();
    change(&mut tensors);
    let error = check_named(&tensors, &Options::default()).expect_err(message);
    assert_eq!(error.to_string(), message);
    assert_eq!(error.kind(), ErrorKind::Input);
}

#[test]
fn good_input_passes() {
    check_named(&named(), &Options::default()).expect("it is good");
}

#[test]
fn shapes_are_checked() {
    refused(
        |tensors| drop(tensors.insert("delta".into(), zeros(&[2, 6, 9]))),
        "selective-scan: tensor `delta`: expected shape (B, D, L) = (2, 6, 10), found shape (2, 6, 9)",
    );
    refused(
        |tensors| drop(tensors.insert("u".into(), zeros(&[2, 6]))),
        "selective-scan: tensor `u`: expected shape (B, D, L), found shape (2, 6)",
    );
    refused(
        |tensors| drop(tensors.insert("B".into(), zeros(&[2, 6, 10]))),
        "selective-scan: tensor `B`: expected shape (B, G, N, L), or (D, N) where constant, found \
         shape (2, 6, 10)",
    );
    refused(
        |tensors| drop(tensors.insert("h0".into(), zeros(&[1, 6, 5]))),
        "selective-scan: tensor `h0`: expected shape (B, D, N) = (2, 6, 5), found shape (1, 6, 5)",
    );
    refused(
        |tensors| {
            tensors.insert("B".into(), zeros(&[2, 4, 5, 10]));
            tensors.insert("C".into(), zeros(&[2, 4, 5, 10]));
        },
        "selective-scan: tensor `B`: expected a number of groups G that divides D = 6, found shape \
         (2, 4, 5, 10)",
    );
    refused(
        |tensors| {
            tensors.insert("A".into(), zeros(&[6, 257]));
            tensors.insert("B".into(), zeros(&[2, 2, 257, 10]));
            tensors.insert("C".into(), zeros(&[2, 2, 257, 10]));
        },
        "selective-scan: tensor `A`: expected a state size N of at most 256, found shape (6, 257)",
    );
    refused(
        |tensors| drop(tensors.insert("reset".into(), indices(&[0], &[1]))),
        "selective-scan: tensor `reset`: expected elements u8, found i64",
    );
    refused(
        |tensors| drop(tensors.insert("seq_idx".into(), indices(&[0; 10], &[1, 10]))),
        "selective-scan: tensor `seq_idx`: expected shape (B, L) = (2, 10), found shape (1, 10)",
    );
    refused(
        |tensors| drop(tensors.insert("cu_seqlens".into(), indices(&[0, 10], &[2]))),
        "selective-scan: tensor `h0`: expected shape (S, D, N) = (1, 6, 5), found shape (2, 6, 5)",
    );
}

#[test]
fn types_and_names_are_checked() {
    refused(
        |tensors| {
            let wide = tensors["u"].shape().to_vec();
            let wide = Tensor::from_vec(vec![0f64; 120], &wide).expect("shape");
            tensors.insert("delta".into(), wide.into_view());
        },
        "selective-scan: tensor `delta`: expected elements f32, found f64",
    );
    refused(
        |tensors| drop(tensors.remove("C")),
        "selective-scan: tensor `C`: expected this tensor, found none",
    );
    refused(
        |tensors| drop(tensors.insert("Z".into(), zeros(&[1]))),
        "selective-scan: tensor `Z`: expected one of u delta A B C D z delta_bias h0 reset seq_idx \
         cu_seqlens, found an unknown tensor",
    );
    refused(
        |tensors| {
            tensors.insert("seq_idx".into(), indices(&[0; 20], &[2, 10]));
            tensors.insert("cu_seqlens".into(), indices(&[0, 10], &[2]));
        },
        "selective-scan: tensor `seq_idx`: expected at most one of reset, seq_idx, cu_seqlens, \
         found cu_seqlens as well",
    );
}

#[test]
fn sequences_must_rise_from_0_to_l() {
    let refused = |bounds: &[i64], found: &str| {
        let mut tensors = Case::new(1, 2, 10, 3, 1).tensors::<f32>().expect("tensors");
        tensors.insert("h0".into(), zeros(&[bounds.len() - 1, 2, 3]));
        tensors.insert("cu_seqlens".into(), indices(bounds, &[bounds.len()]));
        let error = check_named(&tensors, &Options::default()).expect_err(found);
        let message =
            "selective-scan: tensor `cu_seqlens`: expected values that rise from 0 to L = 10";
        assert_eq!(error.to_string(), format!("{message}, found {found}"));
    };
    refused(&[1, 10], "1 first");
    refused(&[0, 9], "9 last");
    refused(&[0, 7, 5, 10], "5 after 7 at position 2");
    refused(&[0, -1, 10], "-1 after 0 at position 1");
}

#[test]
fn gradients_of_outputs_are_checked() {
    let mut tensors = named();
    tensors.insert("dout".into(), zeros(&[2, 6, 9]));
    let error = check_named(&tensors, &Options::default()).expect_err("the shape is wrong");
    assert!(error.to_string().contains("tensor `dout`: expected shape (B, D, L)"), "{error}");
    tensors.insert("dout".into(), zeros(&[2, 6, 10]));
    check_named(&tensors, &Options::default()).expect("the shape is right");
}

#[test]
fn unknown_variants_name_the_known_ones() {
    let options = Options::default().with_variant("selective_scan_forward_fast");
    let device = warpwright::Device::Cpu(Cpu);
    let error =
        selective_scan::run_named(&device, &named(), &options).expect_err("no such variant");
    assert_eq!(
        error.to_string(),
        "selective-scan: cpu does not support variant `selective_scan_forward_fast` for this call; \
         use selective_scan_forward_simd"
    );
}

/// A written tensor that shares memory with another is refused, and everything stays as it was.
#[test]
fn aliased_outputs_are_refused() {
    let tensors = named();
    let inputs = Inputs::<Cpu, f32>::from_named(&tensors).expect("good");
    let before = inputs.u.to_vec().expect("not in use");
    let mut out = inputs.u.clone();
    let mut outputs = OutputsMut { out: &mut out, last_state: None, saved: None };
    let error = selective_scan::forward_into(&inputs, &Options::default(), &mut outputs)
        .expect_err("out lies over u");
    assert_eq!(
        error,
        Error::Aliased { operation: "selective-scan", written: "out".into(), other: "u".into() }
    );
    assert_eq!(inputs.u.to_vec().expect("not in use"), before);
}

/// So is one whose batch entries lie over one another: two threads would write one place.
#[test]
fn outputs_that_lie_over_themselves_are_refused() {
    let tensors = named();
    let inputs = Inputs::<Cpu, f32>::from_named(&tensors).expect("good");
    let memory = Tensor::from_vec(vec![7f32; 60], &[6, 10]).expect("shape");
    let buffer = memory.buffer().clone();
    let mut out = Tensor::<Cpu, f32>::from_buffer(&Cpu, buffer, 0, &[2, 6, 10], &[0, 10, 1])
        .expect("it lies within");
    let mut outputs = OutputsMut { out: &mut out, last_state: None, saved: None };
    let error = selective_scan::forward_into(&inputs, &Options::default(), &mut outputs)
        .expect_err("one entry for both");
    assert_eq!(
        error.to_string(),
        "selective-scan: tensor `out`: expected elements that do not share memory, found strides \
         (0, 10, 1) for shape (2, 6, 10)"
    );
    assert_eq!(memory.to_vec().expect("not in use"), [7.0; 60]);
}

/// An error that the CPU finds late, in the values of an input, leaves the outputs as they were.
#[test]
fn a_failed_call_leaves_outputs_as_they_were() {
    let tensors =
        Case { h0: false, ..Case::new(1, 2, 10, 3, 1) }.tensors::<f32>().expect("tensors");
    let bounds = Tensor::from_vec(vec![0i32, 12, 10], &[3]).expect("shape");
    let inputs = Inputs::<Cpu, f32>::from_named(&tensors)
        .expect("good")
        .with_resets(Resets::CuSeqlens((&bounds).into()));
    let mut out = Tensor::from_vec(vec![7f32; 20], &[1, 2, 10]).expect("shape");
    let mut outputs = OutputsMut { out: &mut out, last_state: None, saved: None };
    selective_scan::forward_into(&inputs, &Options::default(), &mut outputs)
        .expect_err("cu_seqlens falls");
    assert_eq!(out.to_vec().expect("not in use"), [7.0; 20]);
}
