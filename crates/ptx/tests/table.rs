//! Every form of the table, written out: each must parse, and with `WARPWRIGHT_ALL=1` and `PTXAS`
//! set to the path of `ptxas` each must assemble too, under the lowest `.version` and `.target`
//! that the parser admits.

use std::fmt::Write;

use warpwright_ptx::table::{Count, Form, Immediates, Pairing, Shape, TypeRule, forms};
use warpwright_ptx::{Class, Opcode, Space, Type, parse};

const REGISTERS: &str = "
.reg .pred %pred<4>; .reg .b16 %b2_<20>; .reg .b32 %b4_<130>; .reg .b64 %b8_<20>;
.reg .f32 %f4_<130>; .reg .f64 %f8_<20>;
";

/// Writes out `form` with the spelling of number `pick` wherever a choice has as many.
fn instance(form: &Form, pick: usize, with_optional: bool) -> Option<String> {
    let mut spelled: Vec<Option<String>> = Vec::new();
    for choice in &form.choices {
        let text = choice.spellings.get(pick).or(choice.spellings.first())?;
        let text = text.replace("{8}", "16").replace("{16}", "16");
        spelled.push((!choice.optional || with_optional).then_some(text));
    }
    // `satfinite` may stand before or behind the types, not both.
    if let (Opcode::Wgmma, Some(last)) = (form.opcode, spelled.last_mut())
        && last.as_deref() == Some("satfinite")
    {
        *last = None;
    }
    let mut operands = Vec::new();
    let mut next = 0;
    for rule in &form.operands {
        let absent = rule.when.is_some_and(|choice| spelled[choice].is_none());
        if absent || (rule.optional && !with_optional) {
            continue;
        }
        if rule.sink && !rule.destination {
            operands.push("_".to_owned());
            continue;
        }
        let mut text = operand(&rule.shape, &spelled, &mut next)?;
        if rule.pairing != Pairing::Single {
            text.push_str("|%pred3");
        }
        if rule.negatable {
            text = "!%pred2".into();
        }
        operands.push(text);
    }
    let mut line = form.opcode.name().to_owned();
    for modifier in spelled.iter().flatten() {
        write!(line, ".{modifier}").ok()?;
    }
    Some(format!("{line} {};", operands.join(", ")))
}

fn digits(text: &str) -> usize {
    text.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(1)
}

fn operand(shape: &Shape, spelled: &[Option<String>], next: &mut usize) -> Option<String> {
    let named = |choice: usize| spelled.get(choice)?.as_deref();
    let ty = |rule: TypeRule| match rule {
        TypeRule::Fixed(ty) => Some(ty),
        TypeRule::Chosen(choice) => Type::from_name(named(choice)?),
        TypeRule::Widened(choice) => Type::from_name(named(choice)?)?.widened(),
    };
    let address = |space| {
        match space {
            Space::Shared => "[tile]",
            Space::Param => "[x]",
            Space::Const => "[fixed]",
            _ => "[%b8_19]",
        }
        .to_owned()
    };
    Some(match *shape {
        Shape::Label => "DONE".into(),
        Shape::Targets => "cases".into(),
        Shape::Address(space) => address(space),
        Shape::AddressIn(choice) => {
            address(named(choice).and_then(Space::from_name).unwrap_or(Space::Generic))
        }
        Shape::Tensor(choice) => {
            let zeros = vec!["0"; digits(named(choice)?)];
            format!("[%b8_18, {{{}}}]", zeros.join(", "))
        }
        Shape::MoveSource(rule) => register(ty(rule)?, next),
        Shape::Value { ty: rule, count, immediates, range, .. } => {
            if immediates == Immediates::Only {
                return Some(range.map_or("0".into(), |(first, ..)| first.to_string()));
            }
            let ty = ty(rule)?;
            let count = match count {
                Count::One => None,
                Count::Fixed(count) => Some(count),
                Count::Chosen(choice) => named(choice).map(digits),
                Count::Columns(_, divisor) => Some(16 / divisor),
            };
            match count {
                None => register(ty, next),
                Some(count) => {
                    let all: Vec<_> = (0..count).map(|_| register(ty, next)).collect();
                    format!("{{{}}}", all.join(", "))
                }
            }
        }
    })
}

fn register(ty: Type, next: &mut usize) -> String {
    *next += 1;
    match ty {
        Type::Pred => format!("%pred{}", *next % 3),
        Type::B128 => format!("%b16_{}", *next % 4),
        Type::F32 => format!("%f4_{next}"),
        Type::F64 => format!("%f8_{}", *next % 18),
        _ if ty.bytes() == 4 => format!("%b4_{next}"),
        _ if ty.bytes() == 8 => format!("%b8_{}", *next % 18),
        _ => {
            debug_assert!(ty.class() != Class::Predicate);
            format!("%b2_{next}")
        }
    }
}

/// Headers from low to high. `ptxas` 13 assembles for sm_80 and sm_90a alike.
const HEADERS: &[(&str, &str)] = &[
    ("7.0", "sm_80"),
    ("7.1", "sm_80"),
    ("7.4", "sm_80"),
    ("7.5", "sm_80"),
    ("7.6", "sm_80"),
    ("7.7", "sm_80"),
    ("7.8", "sm_80"),
    ("8.1", "sm_80"),
    ("8.2", "sm_80"),
    ("7.2", "sm_86"),
    ("8.1", "sm_89"),
    ("8.4", "sm_89"),
    ("7.8", "sm_90"),
    ("8.0", "sm_90"),
    ("8.0", "sm_90a"),
    ("8.1", "sm_90"),
    ("8.3", "sm_90"),
    ("8.4", "sm_90"),
    ("8.6", "sm_90"),
    ("9.0", "sm_90a"),
];

fn around(line: &str, (version, target): (&str, &str)) -> String {
    let wide = if line.contains("%b16_") { ".reg .b128 %b16_<4>;" } else { "" };
    format!(
        ".version {version}\n.target {target}\n.address_size 64\n.const .b64 fixed[4];\n\
         .visible .entry k(.param .align 64 .b8 x[128]) {{\n.shared .align 128 .b8 tile[1024];\n\
         {REGISTERS}{wide}\ncases: .branchtargets DONE, DONE;\n{line}\nDONE: ret;\n}}\n"
    )
}

fn instances() -> Vec<String> {
    let mut lines = Vec::new();
    for form in Opcode::ALL.iter().flat_map(|opcode| forms(*opcode)) {
        let most = form.choices.iter().map(|choice| choice.spellings.len()).max().unwrap_or(1);
        for pick in 0..most {
            for with_optional in [false, true] {
                lines.extend(instance(form, pick, with_optional));
            }
        }
    }
    lines.sort();
    lines.dedup();
    lines
}

#[test]
fn every_form_parses() {
    let lines = instances();
    assert!(lines.len() > 1000, "{}", lines.len());
    let refused: Vec<String> = lines
        .iter()
        .filter_map(|line| {
            parse(&around(line, ("9.0", "sm_90a"))).err().map(|why| format!("{line}\n  {why}"))
        })
        // What no form says by itself: wide vectors, and modifiers that exclude each other.
        .filter(|text| {
            !["at most 16 bytes", "is for global memory", "excludes", "equal integer types"]
                .iter()
                .any(|legal| text.contains(legal))
        })
        .collect();
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

#[test]
fn every_form_assembles_where_ptxas_is_at_hand() {
    let all = std::env::var_os("WARPWRIGHT_ALL").is_some_and(|value| value == "1");
    let Some(ptxas) = std::env::var_os("PTXAS").filter(|_| all) else {
        return;
    };
    let file = std::env::temp_dir().join(format!("table-{}.ptx", std::process::id()));
    let mut refused = Vec::new();
    for line in instances() {
        let lowest = HEADERS.iter().find(|header| parse(&around(&line, **header)).is_ok());
        let Some(&header) = lowest else {
            continue;
        };
        std::fs::write(&file, around(&line, header)).expect("a file in the temporary folder");
        let output = std::process::Command::new(&ptxas)
            .arg(format!("-arch={}", header.1))
            .args(["-o", "/dev/null"])
            .arg(&file)
            .output()
            .expect("ptxas runs");
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            let first = text.lines().next().unwrap_or("").to_owned();
            refused.push(format!("{line} under {header:?}\n  {first}"));
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}
