//! Wrong input gets one clear line.

use warpwright::cross_entropy::{self, Inputs, Options, OutputsMut, check_named};
use warpwright::verify::cross_entropy::Case;
use warpwright::{Cpu, Error, ErrorKind, Named, Tensor};

use super::tensor;

/// Changes the tensors of a good call, and expects this message.
#[track_caller]
fn refused(case: &Case, change: impl FnOnce(&mut Named<Cpu>), message: &str) {
    let mut tensors = case.tensors::<f32>().expect("tensors");
    check_named(&tensors, &Options::default()).expect("it is good");
    change(&mut tensors);
    let error = check_named(&tensors, &Options::default()).expect_err(message);
    assert_eq!(error.to_string(), message);
    assert_eq!(error.kind(), ErrorKind::Input);
}

#[test]
fn wrong_input_is_told() {
    let (given, linear) = (Case::given(4, 9), Case::linear(4, 9, 5));
    let zeros = |shape: &[usize]| tensor(vec![0f32; shape.iter().product()], shape);
    refused(
        &given,
        |tensors| drop(tensors.insert("target".into(), tensor(vec![0i64; 3], &[3]))),
        "cross-entropy: tensor `target`: expected shape (T) = (4), found shape (3)",
    );
    refused(
        &given,
        |tensors| drop(tensors.insert("target".into(), zeros(&[4]))),
        "cross-entropy: tensor `target`: expected elements i32 or i64 or u32 or u64, found f32",
    );
    refused(
        &given,
        |tensors| drop(tensors.insert("logits".into(), zeros(&[4, 9, 1]))),
        "cross-entropy: tensor `logits`: expected shape (T, V), found shape (4, 9, 1)",
    );
    refused(
        &given,
        |tensors| drop(tensors.insert("dloss".into(), zeros(&[4]))),
        "cross-entropy: tensor `dloss`: expected shape (1) = (1), found shape (4)",
    );
    refused(
        &given,
        |tensors| drop(tensors.insert("x".into(), zeros(&[4, 5]))),
        "cross-entropy: tensor `logits`: expected either logits, or x and weight, found both",
    );
    refused(
        &linear,
        |tensors| drop(tensors.insert("weight".into(), zeros(&[9, 6]))),
        "cross-entropy: tensor `weight`: expected shape (V, E) = (9, 5), found shape (9, 6)",
    );
    refused(
        &linear,
        |tensors| drop(tensors.remove("weight")),
        "cross-entropy: tensor `weight`: expected this tensor, found none",
    );
    refused(
        &linear,
        |tensors| drop(tensors.insert("bias".into(), zeros(&[9]))),
        "cross-entropy: tensor `bias`: expected one of logits x weight target, found an unknown tensor",
    );
}

#[test]
fn columns_outside_the_vocabulary_are_told() {
    let tensors = Case::given(4, 9).tensors::<f32>().expect("tensors");
    for (first, vocabulary) in [(3, 11), (usize::MAX, 20)] {
        let options = Options::default().with_shard(first, vocabulary);
        let error = check_named(&tensors, &options).expect_err("it does not fit").to_string();
        let expected = format!(
            "cross-entropy: option `shard`: expected columns within a vocabulary of {vocabulary}, \
             found 9 from {first} on"
        );
        assert_eq!(error, expected);
    }
}

/// A written tensor that shares memory with another is refused, and everything stays as it was.
#[test]
fn aliased_outputs_are_refused() {
    let logits = Tensor::from_vec(vec![1.0f32; 6], &[6, 1]).expect("shape");
    let target = Tensor::from_vec(vec![0i64; 6], &[6]).expect("shape");
    let buffer = logits.buffer().clone();
    let mut lse = Tensor::<Cpu, f32>::from_buffer(&Cpu, buffer, 0, &[6], &[1]).expect("within");
    let mut loss = Tensor::<Cpu, f32>::new(&Cpu, &[1]).expect("memory");
    let mut outputs = OutputsMut { loss: &mut loss, lse: &mut lse };
    let inputs = Inputs::new(&logits, &target);
    let error = cross_entropy::forward_into(&inputs, &Options::default(), &mut outputs)
        .expect_err("lse lies over the logits");
    let expected = Error::Aliased {
        operation: "cross-entropy",
        written: "lse".into(),
        other: "logits".into(),
    };
    assert_eq!(error, expected);
    assert_eq!(logits.to_vec().expect("not in use"), [1.0; 6]);
}
