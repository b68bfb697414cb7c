//! Wrong input gets one clear line.

use warpwright::scan_attention::{Options, check_named};
use warpwright::verify::scan_attention::Case;
use warpwright::{Cpu, ErrorKind, Named, View};

use super::tensor;

/// Changes the tensors of a good call, and expects this message.
#[track_caller]
fn refused(change: impl FnOnce(&mut Named<Cpu>), message: &str) {
    let mut tensors = Case::keys(2, [4, 2], 10, 6).tensors::<f32>().expect("tensors");
    check_named(&tensors, &Options::default()).expect("it is good");
    change(&mut tensors);
    let error = check_named(&tensors, &Options::default()).expect_err(message);
    assert_eq!(error.to_string(), message);
    assert_eq!(error.kind(), ErrorKind::Input);
}

#[test]
fn wrong_input_is_told() {
    let zeros = |shape: &[usize]| tensor(vec![0f32; shape.iter().product()], shape);
    let replaced = |name: &'static str, view: View<Cpu>| {
        move |tensors: &mut Named<Cpu>| drop(tensors.insert(name.to_owned(), view))
    };
    refused(
        replaced("v", zeros(&[2, 3, 10, 6])),
        "scan-attention: tensor `v`: expected a number of heads Hk that divides H = 4, found shape \
         (2, 3, 10, 6)",
    );
    refused(
        replaced("k", zeros(&[2, 2, 9, 6])),
        "scan-attention: tensor `k`: expected shape (B, Hk, L, Dk) = (2, 2, 10, 6), found shape \
         (2, 2, 9, 6)",
    );
    refused(
        replaced("q", zeros(&[24])),
        "scan-attention: tensor `q`: expected shape (H, Dk), found shape (24)",
    );
    refused(
        replaced("s", zeros(&[2, 4, 10])),
        "scan-attention: tensor `s`: expected either s, or q and k, found both",
    );
    refused(
        |tensors| drop(tensors.remove("q")),
        "scan-attention: tensor `q`: expected this tensor, found none",
    );
    refused(
        |tensors| drop(tensors.remove("u0")),
        "scan-attention: tensor `u0`: expected this tensor, found none",
    );
    refused(
        replaced("reset", zeros(&[2, 10])),
        "scan-attention: tensor `reset`: expected one of s q k v m0 u0 w0 mask seq_idx cu_seqlens, \
         found an unknown tensor",
    );
    refused(
        replaced("mask", zeros(&[2, 10])),
        "scan-attention: tensor `mask`: expected elements u8, found f32",
    );
    refused(
        replaced("do", zeros(&[2, 4, 10, 5])),
        "scan-attention: tensor `do`: expected shape (B, H, L, Dv) = (2, 4, 10, 6), found shape \
         (2, 4, 10, 5)",
    );
    refused(
        replaced("cu_seqlens", tensor::<i32>(vec![0, 10], &[2])),
        "scan-attention: tensor `m0`: expected shape (S, H) = (1, 4), found shape (2, 4)",
    );
}
