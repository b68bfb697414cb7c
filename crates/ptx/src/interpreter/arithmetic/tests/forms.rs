//! Every instruction that the table has in these forms has a rule, and its results keep to its registers.

use super::*;

/// The opcodes of the table's integer, float, approximate, comparison and conversion forms, without `selp`.
const OPCODES: &[Opcode] = &[
    Opcode::Abs,
    Opcode::Add,
    Opcode::Addc,
    Opcode::And,
    Opcode::Bfe,
    Opcode::Bfi,
    Opcode::Bfind,
    Opcode::Bmsk,
    Opcode::Brev,
    Opcode::Clz,
    Opcode::Cnot,
    Opcode::Copysign,
    Opcode::Cos,
    Opcode::Cvt,
    Opcode::Div,
    Opcode::Dp2a,
    Opcode::Dp4a,
    Opcode::Ex2,
    Opcode::Fma,
    Opcode::Fns,
    Opcode::Lg2,
    Opcode::Lop3,
    Opcode::Mad,
    Opcode::Mad24,
    Opcode::Madc,
    Opcode::Max,
    Opcode::Min,
    Opcode::Mul,
    Opcode::Mul24,
    Opcode::Neg,
    Opcode::Not,
    Opcode::Or,
    Opcode::Popc,
    Opcode::Prmt,
    Opcode::Rcp,
    Opcode::Rem,
    Opcode::Rsqrt,
    Opcode::Sad,
    Opcode::Set,
    Opcode::Setp,
    Opcode::Shf,
    Opcode::Shl,
    Opcode::Shr,
    Opcode::Sin,
    Opcode::Slct,
    Opcode::Sqrt,
    Opcode::Sub,
    Opcode::Subc,
    Opcode::Szext,
    Opcode::Tanh,
    Opcode::Testp,
    Opcode::Xor,
];

/// Opcode and modifiers in all combinations that the form admits.
fn heads(form: &Form) -> Vec<String> {
    form.choices.iter().fold(vec![form.opcode.name().to_owned()], |heads, choice| {
        let with = |head: &String| {
            let spelled = choice.spellings.iter().map(|one| format!("{head}.{one}"));
            let without = choice.optional.then(|| head.clone());
            spelled.chain(without).collect::<Vec<_>>()
        };
        heads.iter().flat_map(with).collect()
    })
}

/// Bytes of the first destination, which all these have.
fn width(instruction: &Instruction) -> u32 {
    let named = |choice: &str| instruction.ty(choice);
    match instruction.rule(0).expect("a destination").shape {
        Shape::Value { ty: TypeRule::Fixed(ty), .. } => ty.bytes(),
        Shape::Value { ty: TypeRule::Widened(_), .. } => 2 * named("t").expect("a type").bytes(),
        _ => named("d").or(named("t")).expect("a type").bytes(),
    }
}

#[test]
fn every_form_has_a_rule() {
    let mut random = Random(1);
    let mut count = 0;
    for head in OPCODES.iter().flat_map(|opcode| forms(*opcode)).flat_map(heads) {
        // What the parser refuses: `cvt` between equal integer types without `.sat`.
        let Some(instruction) = parsed(&head) else {
            assert!(head.starts_with("cvt."), "{head} does not parse");
            continue;
        };
        if instruction.has("oob") || instruction.ty("t") == Some(Type::Pred) {
            assert!(rule(&instruction).is_none(), "{head} has a rule");
            continue;
        }
        let found = rule(&instruction).unwrap_or_else(|| panic!("{head} has no rule"));
        let rows: [Row; 4] = std::array::from_fn(|_| std::array::from_fn(|_| random.bits()));
        let mut results = [0; LANES];
        match found {
            Rule::Map(map) => map(&rows.each_ref(), &mut results),
            Rule::Carry(chain) => drop(chain(&rows.each_ref(), 0, &mut results)),
            Rule::Approximate(function) => function(&rows.each_ref(), None, &mut results),
            Rule::Test(_) => {}
        }
        // `slct` takes its data as they are.
        if instruction.opcode != Opcode::Slct {
            let above = u64::MAX.checked_shl(8 * width(&instruction)).unwrap_or(0);
            assert!(results.iter().all(|bits| bits & above == 0), "{head}: {results:X?}");
        }
        count += 1;
    }
    assert!(count > 2000, "{count} instructions");
}

#[test]
fn what_is_not_arithmetic_has_no_rule() {
    for head in ["selp.b32", "and.pred", "fma.rn.oob.f16"] {
        assert!(rule(&parsed(head).expect("exists")).is_none(), "{head}");
    }
}
