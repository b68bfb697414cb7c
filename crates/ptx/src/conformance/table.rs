//! Tables of values: an instruction, and what it makes of what.
//!
//! ```text
//! # a comment
//! target sm_90 8.0                        from here on
//! fma.rn.f32 %d, %a, %b, %c;  f32 f32 f32 -> f32
//!   1.5 2.0 0x3F800000 -> 4.0
//! ```
//!
//! A line without indent is an instruction (or several) and its signature, an indented one a thread. Inputs
//! without names are `%a %b %c %x %y %z`, outputs `%d %e %f`.
//!
//! | value | is |
//! |---|---|
//! | `0x7FFF`, `12`, `-3` | bits |
//! | `1.5`, `-0.0`, `inf`, `-inf`, `nan` | an f32 or f64; an output `nan` admits any NaN |
//! | `2^-149`, `-2^127` | a power of two, likewise |
//! | `3.25~2ulp`, `3.25~rel2^-22`, `3.25~abs2^-11` | an output within a bound, of any float format |

use super::expected::{Expected, Format};
use super::fragment::{Fragment, Kind, Row};
use super::{Program, Target};

/// The tables, in the order of the ISA's sections.
const TABLES: [&str; 6] = [
    include_str!("../../conformance/integer.txt"),
    include_str!("../../conformance/float.txt"),
    include_str!("../../conformance/half.txt"),
    include_str!("../../conformance/approximate.txt"),
    include_str!("../../conformance/compare.txt"),
    include_str!("../../conformance/convert.txt"),
];

/// The programs of all tables, one per instruction.
pub(super) fn programs() -> Vec<Program> {
    // A line that does not read is a mistake of this crate; the test below refuses it.
    TABLES.into_iter().flat_map(|table| read(table).unwrap_or_default()).collect()
}

fn read(table: &str) -> Result<Vec<Program>, String> {
    let mut found: Vec<(Fragment, Vec<Row>)> = Vec::new();
    let mut header = ("7.1", Target::Sm80);
    for line in table.lines() {
        let line = line.split('#').next().unwrap_or_default().trim_end();
        let at = |why: String| format!("{why} in: {line}");
        if line.is_empty() {
        } else if let Some(row) = line.strip_prefix(' ') {
            let (fragment, rows) = found.last_mut().ok_or_else(|| at("no instruction".into()))?;
            rows.push(thread(fragment, row).map_err(at)?);
        } else if let Some(words) = line.strip_prefix("target ") {
            header = target(words).ok_or_else(|| at("no target".into()))?;
        } else {
            let (body, signature) = line.rsplit_once(';').ok_or_else(|| at("no `;`".into()))?;
            let fragment = Fragment::new(body, signature, &format!("{body};"));
            found.push((fragment.on(header.0, header.1), Vec::new()));
        }
    }
    let programs = found.into_iter().map(|(fragment, rows)| {
        let block = rows.len() as u32;
        fragment.block(block).program(rows)
    });
    Ok(programs.collect())
}

fn target(words: &str) -> Option<(&str, Target)> {
    let (name, version) = words.split_once(' ')?;
    let all = [Target::Sm80, Target::Sm90, Target::Sm90a];
    Some((version.trim(), all.into_iter().find(|target| target.name() == name)?))
}

fn thread(fragment: &Fragment, row: &str) -> Result<Row, String> {
    let (inputs, outputs) = row.split_once("->").ok_or("no `->`")?;
    let (inputs, outputs): (Vec<_>, Vec<_>) =
        (inputs.split_whitespace().collect(), outputs.split_whitespace().collect());
    if inputs.len() != fragment.inputs.kinds().count() {
        return Err("a wrong number of inputs".into());
    }
    if outputs.len() != fragment.outputs.kinds().count() {
        return Err("a wrong number of outputs".into());
    }
    let inputs = fragment.inputs.kinds().zip(inputs).map(|(kind, text)| bits(kind, text));
    let outputs = fragment.outputs.kinds().zip(outputs).map(|(kind, text)| expected(kind, text));
    Ok((inputs.collect::<Result<_, _>>()?, outputs.collect::<Result<_, _>>()?))
}

fn expected(kind: Kind, text: &str) -> Result<Expected, String> {
    if let Some((value, bound)) = text.split_once('~') {
        return near(kind, value, bound).ok_or_else(|| format!("`{text}` is no bound"));
    }
    Ok(kind.expects(bits(kind, text)?))
}

fn near(kind: Kind, value: &str, bound: &str) -> Option<Expected> {
    let format = match kind {
        Kind::Float(format) => format,
        Kind::Pair(format) => {
            // The same value in both halves.
            let half = near(Kind::Float(format), value, bound)?;
            return Some(Expected::Packed(Box::new([half.clone(), half])));
        }
        _ => return None,
    };
    let value: f64 = number(value)?;
    let bound = if let Some(steps) = bound.strip_suffix("ulp") {
        steps.parse::<f64>().ok()? * format.ulp(value)
    } else if let Some(relative) = bound.strip_prefix("rel") {
        number(relative)? * value.abs()
    } else {
        number(bound.strip_prefix("abs")?)?
    };
    Some(Expected::Near { value, bound, format })
}

/// A float in decimal, a power of two, `inf` or `nan`.
fn number(text: &str) -> Option<f64> {
    if let Some(exponent) = text.strip_prefix("2^") {
        return Some(exponent.parse::<f64>().ok()?.exp2());
    }
    if let Some(exponent) = text.strip_prefix("-2^") {
        return Some(-exponent.parse::<f64>().ok()?.exp2());
    }
    let word = text.trim_start_matches('-');
    let float = text.contains('.') || word == "inf" || word == "nan";
    float.then(|| text.parse().ok())?
}

/// The bits of a literal in an operand of this kind.
fn bits(kind: Kind, text: &str) -> Result<u64, String> {
    let float = match kind {
        Kind::Float(Format::F32) => number(text).map(|value| u64::from((value as f32).to_bits())),
        Kind::Float(Format::F64) => number(text).map(f64::to_bits),
        _ => None,
    };
    if let Some(bits) = float {
        return Ok(bits);
    }
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let parsed = match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    let magnitude = parsed.map_err(|_| format!("`{text}` is no value"))?;
    let all = u64::MAX >> (64 - kind.bits());
    if magnitude > all {
        return Err(format!("`{text}` has more than {} bits", kind.bits()));
    }
    Ok(if negative { magnitude.wrapping_neg() & all } else { magnitude })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_reads() {
        for table in TABLES {
            if let Err(why) = read(table) {
                panic!("{why}");
            }
        }
    }

    #[test]
    fn values_have_their_bits() {
        let single = Kind::Float(Format::F32);
        assert_eq!(bits(single, "1.5"), Ok(0x3FC0_0000));
        assert_eq!(bits(single, "-2^-149"), Ok(0x8000_0001));
        assert_eq!(bits(single, "0x7F800001"), Ok(0x7F80_0001));
        assert_eq!(bits(single, "-inf"), Ok(0xFF80_0000));
        assert_eq!(bits(Kind::Bits(16), "-1"), Ok(0xFFFF));
        assert!(bits(Kind::Bits(16), "65536").is_err());
        assert!(bits(Kind::Bits(32), "1.5").is_err());
    }

    #[test]
    fn a_row_must_fit_its_signature() {
        let line = "shl.b32 %d, %a, %b; b32 u32 -> b32\n";
        assert!(read(&format!("{line}  1 2 -> 4")).is_ok());
        for row in ["  1 -> 4", "  1 2 -> 4 5", "  1 2", "  1 2 -> x", "  1 2 -> 1~2ulp"] {
            assert!(read(&format!("{line}{row}")).is_err(), "{row}");
        }
    }
}
