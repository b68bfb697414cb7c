//! Wrong input gets one clear line.

use warpwright::rnn::{Cell, Options, check_named};
use warpwright::verify::rnn::Case;
use warpwright::{Cpu, ErrorKind, Named, Tensor, View};

/// Changes the tensors of a good call, and expects this message.
#[track_caller]
fn refused(cell: Cell, change: impl FnOnce(&mut Named<Cpu>), message: &str) {
    let mut tensors = Case::new(cell, [2, 5, 3, 4]).tensors::<f32>().expect("tensors");
    check_named(&tensors, &Options::new(cell)).expect("it is good");
    change(&mut tensors);
    let error = check_named(&tensors, &Options::new(cell)).expect_err(message);
    assert_eq!(error.to_string(), message);
    assert_eq!(error.kind(), ErrorKind::Input);
}

#[test]
fn wrong_input_is_told() {
    let zeros = |shape: &[usize]| -> View<Cpu> {
        let zeros = vec![0f32; shape.iter().product()];
        Tensor::from_slice(&Cpu, &zeros, shape).expect("fits").into_view()
    };
    let replaced = |name: &'static str, view: View<Cpu>| {
        move |tensors: &mut Named<Cpu>| drop(tensors.insert(name.to_owned(), view))
    };
    refused(
        Cell::Lstm,
        replaced("wx", zeros(&[2, 5, 3, 3, 4])),
        "rnn: tensor `wx`: expected shape (B, T, Gw, N, D) = (2, 5, 4, 3, 4), found shape \
         (2, 5, 3, 3, 4)",
    );
    refused(
        Cell::Lstm,
        replaced("wx", zeros(&[2, 5, 12])),
        "rnn: tensor `wx`: expected shape (B, T, Gw, N, D), found shape (2, 5, 12)",
    );
    refused(
        Cell::Gru,
        replaced("R", zeros(&[4, 3, 4, 4])),
        "rnn: tensor `R`: expected shape (Gr, N, D, D) = (3, 3, 4, 4), found shape (4, 3, 4, 4)",
    );
    refused(
        Cell::Gru,
        replaced("b", zeros(&[3, 3, 4])),
        "rnn: tensor `b`: expected shape (Gb, N, D) = (4, 3, 4), found shape (3, 3, 4)",
    );
    refused(
        Cell::Gru,
        replaced("c0", zeros(&[2, 3, 4])),
        "rnn: tensor `c0`: expected no such tensor: gru has h, found one",
    );
    refused(
        Cell::Lstm,
        replaced("dn", zeros(&[2, 5, 3, 4])),
        "rnn: tensor `dn`: expected no such tensor: lstm has h, c, found one",
    );
    refused(
        Cell::Slstm,
        replaced("lengths", zeros(&[2])),
        "rnn: tensor `lengths`: expected elements of an integer type, found f32",
    );
    refused(
        Cell::Slstm,
        replaced("reset", zeros(&[2, 5])),
        "rnn: tensor `reset`: expected one of wx R b h0 c0 n0 m0 lengths, found an unknown tensor",
    );
    refused(
        Cell::ELMAN,
        |tensors| drop(tensors.remove("R")),
        "rnn: tensor `R`: expected this tensor, found none",
    );
}
