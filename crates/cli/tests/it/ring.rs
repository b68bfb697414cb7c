//! Rings: their plans and pictures, and their results on a case that another library has computed.

use std::collections::BTreeSet;

use crate::fixtures::{DEVICES, compare};
use crate::{fixture, temporary, warpwright};

/// The tolerances of section 11 of the specification; those of lse four times.
fn tolerance(device: &str, tensor: &str) -> f64 {
    match tensor {
        _ if device == "reference" => 1e-12,
        "out" => 2e-6,
        "lse" => 8e-6,
        _ => 4e-6,
    }
}

#[test]
fn rings_give_what_pytorch_gives() {
    for device in DEVICES {
        compare("ring-attention", "ring-zigzag", device, |tensor, _| tolerance(device, tensor));
    }
}

/// The metadata of what a run of the fixture writes.
fn run(options: &[&str]) -> std::collections::HashMap<String, String> {
    let (input, output) = (fixture("ring-zigzag.in.safetensors"), temporary("ring"));
    let mut arguments =
        vec!["run", "ring", "--input", &input, "--output", &output, "--device", "cpu"];
    for option in options {
        arguments.extend(["--set", option]);
    }
    let ran = warpwright(&arguments);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let bytes = std::fs::read(&output).expect("the output is there");
    std::fs::remove_file(&output).expect("it can be removed");
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("it is whole");
    header.metadata().clone().unwrap_or_default()
}

/// 40 tokens of 4 heads, of 2 of keys, 16 wide, in f32.
#[test]
fn bytes_are_told_for_each_rank() {
    let told = |options: &[&str]| {
        let metadata = run(options);
        let bytes = metadata["bytes_sent"].split(',').map(|bytes| bytes.parse().expect("bytes"));
        (metadata["variant"].clone(), bytes.collect::<Vec<u64>>())
    };
    let (variant, bytes) = told(&["ranks=2", "partition=contiguous"]);
    assert_eq!(variant, "kv-ring");
    // Rank 1 sees keys and values of rank 0, which sends them in both passes, and their gradients
    // behind them, to be added to; rank 1 sends these home.
    let shard = 20 * 2 * (16 + 16) * 4;
    assert_eq!(bytes, [3 * shard, shard]);
    let (variant, bytes) = told(&["schedule=token-ring", "ranks=3"]);
    assert_eq!((variant.as_str(), bytes.len()), ("token-ring", 3));
    assert_eq!(told(&["ranks=1"]).1, [0]);
}

/// A status and a line, that says what would be right.
fn refused(arguments: &[&str], status: i32, says: &str) {
    let ran = warpwright(arguments);
    let complaint = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(status), "{complaint}");
    assert!(complaint.contains(says) && complaint.lines().count() == 1, "{complaint}");
}

#[test]
fn what_rings_do_not_have_is_told_from_what_is_wrong() {
    let (input, output) = (fixture("ring-zigzag.in.safetensors"), temporary("refused"));
    let set = |option: &str, status, says| {
        let run = ["run", "ring", "--input", &input, "--output", &output, "--device", "cpu"];
        let arguments: Vec<&str> = run.into_iter().chain(["--set", option]).collect();
        refused(&arguments, status, says);
        assert!(!std::path::Path::new(&output).exists(), "{option}: a file is left");
    };
    set("schedule=ulysses", 3, "use two-way");
    set("schedule=gathered", 3, "use kv-ring");
    set("schedule=hybrid:2", 3, "use kv-ring or token-ring");
    set("schedule=circle", 2, "expected auto, kv-ring, two-way");
    set("partition=zag", 2, "expected contiguous, zigzag or striped");
    set("ranks=0", 2, "expected a number from 1 to 256");
    set("rank=4", 2, "an unknown option");
    #[cfg(not(feature = "mpi"))]
    set("engine=mpi", 3, "with the feature mpi");
}

const SHAPE: &str = "B=1,H=8,Hk=4,Sq=4096,D=64";

fn plan(options: &[&str], more: &[&str]) -> String {
    let mut arguments = vec!["plan", "ring", "--shape", SHAPE, "--device", "cpu"];
    for option in options {
        arguments.extend(["--set", option]);
    }
    arguments.extend(more);
    let ran = warpwright(&arguments);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).expect("text")
}

#[test]
fn a_plan_tells_the_bytes_of_every_step() {
    let text = plan(&["causal=true", "schedule=token-ring"], &["--dtype", "bf16"]);
    assert!(text.contains("schedule   token-ring: queries go down, results home"), "{text}");
    assert!(text.contains("zigzag, 4 ranks of up to 1024 queries and 1024 keys"), "{text}");
    // Section 7.1 of the specification: three quarters of the bytes.
    assert!(
        text.contains("28606464 bytes in all, 75.0 % of the 38141952 without a mask"),
        "{text}"
    );
    for pass in ["forward", "backward"] {
        assert!(text.contains(&format!("{pass} bytes that ranks send, by step:")), "{text}");
    }
    let one = plan(&["pass=backward", "ranks=12"], &[]);
    assert!(one.contains("pass       backward") && !one.contains("forward"), "{one}");
    assert!(one.contains("least") && one.contains("most"), "many ranks: {one}");
    refused(&["plan", "ring", "--shape", SHAPE, "--set", "pass=both"], 2, "forward or backward");
}

/// The names of the elements that are open at each place must match: what a browser asks of XML.
fn assert_well_formed(text: &str) {
    let mut open = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        assert!(!rest[..start].contains('>'), "a stray > in {}", &rest[..start]);
        let end = start + rest[start..].find('>').expect("a tag ends");
        let tag = &rest[start + 1..end];
        let name = |tag: &str| tag.split_whitespace().next().unwrap_or("").to_owned();
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "</{name}>");
        } else if !tag.starts_with('?') && !tag.ends_with('/') {
            open.push(name(tag));
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "<{tag}>");
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "{open:?} are left open");
}

/// What stands in the elements of this class.
fn texts<'a>(svg: &'a str, class: &str) -> Vec<&'a str> {
    let mark = format!("class=\"{class}\"");
    let of_class = svg.split("<text").skip(1).filter(|element| {
        element.split('>').next().is_some_and(|attributes| attributes.contains(&mark))
    });
    let content = |element: &'a str| element.split(['>', '<']).nth(1);
    of_class.filter_map(content).collect()
}

fn picture(options: &[&str]) -> String {
    let path = temporary(&format!("{}.svg", options.join("-")));
    plan(options, &["--svg", &path]);
    let svg = std::fs::read_to_string(&path).expect("the picture is there");
    std::fs::remove_file(&path).expect("it can be removed");
    assert_well_formed(&svg);
    svg
}

#[test]
fn a_picture_shows_each_pair_once() {
    for schedule in ["schedule=kv-ring", "schedule=token-ring"] {
        for pass in ["pass=forward", "pass=backward"] {
            let svg = picture(&["causal=true", schedule, pass]);
            let labels = texts(&svg, "label");
            let mut expected = BTreeSet::new();
            for (queries, keys) in
                (0..4).flat_map(|queries| (0..4).map(move |keys| (queries, keys)))
            {
                expected.insert(match queries {
                    _ if queries == keys => format!("Q{queries} × K{keys}"),
                    _ if queries > keys => format!("Q{queries} × K{keys} early"),
                    _ => format!("Q{queries} late × K{keys}"),
                });
            }
            assert_eq!(labels.len(), 16, "{schedule} {pass}: {labels:?}");
            let found: BTreeSet<String> = labels.into_iter().map(str::to_owned).collect();
            assert_eq!(found, expected, "{schedule} {pass}");
        }
    }
    // Half of the heads go either way.
    assert_eq!(texts(&picture(&["schedule=two-way"]), "label").len(), 32);
}

#[test]
fn a_picture_shows_every_transfer() {
    let svg = picture(&["schedule=kv-ring", "ranks=3"]);
    // 1365 or 1366 tokens of 4 heads, 64 + 64 wide, in f32.
    assert_eq!(svg.matches("<title>rank 0 to rank 1: ").count(), 2);
    assert!(svg.contains("rank 1 to rank 2: K1 · 2.7 MiB, 2795520 bytes"), "{svg}");
    assert_eq!(texts(&svg, "bytes").len(), 6);
    refused(
        &["plan", "ring", "--shape", SHAPE, "--set", "ranks=64", "--svg", "x.svg"],
        2,
        "at most 32",
    );
    let scan = ["plan", "selective-scan", "--shape", "B=1,D=1,L=1,N=1", "--svg", "x.svg"];
    refused(&scan, 2, "only ring-attention");
}
