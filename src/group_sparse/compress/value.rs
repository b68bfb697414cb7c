//! Numbers and texts of a report, for those who write them to files.

use std::fmt;

/// A number, a text, or a list of these.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A count or an index.
    Integer(u64),
    /// A finite number.
    Real(f64),
    /// A name.
    Text(String),
    /// A truth value.
    Bool(bool),
    /// Some of them.
    List(Vec<Value>),
}

/// As JSON has it: reals with the fewest digits that give them back.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => value.fmt(f),
            // With a point or an exponent, so that it is read as a real again.
            Self::Real(value) => write!(f, "{value:?}"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Bool(value) => value.fmt(f),
            Self::List(values) => {
                let texts: Vec<String> = values.iter().map(Self::to_string).collect();
                write!(f, "[{}]", texts.join(", "))
            }
        }
    }
}

/// What becomes a value, where it is there.
pub(super) trait ToValue {
    fn value(&self) -> Option<Value>;
}

impl ToValue for u64 {
    fn value(&self) -> Option<Value> {
        Some(Value::Integer(*self))
    }
}

impl ToValue for f64 {
    fn value(&self) -> Option<Value> {
        self.is_finite().then_some(Value::Real(*self))
    }
}

impl ToValue for bool {
    fn value(&self) -> Option<Value> {
        Some(Value::Bool(*self))
    }
}

impl ToValue for &str {
    fn value(&self) -> Option<Value> {
        Some(Value::Text((*self).to_owned()))
    }
}

impl<V: ToValue> ToValue for Option<V> {
    fn value(&self) -> Option<Value> {
        self.as_ref()?.value()
    }
}

impl<const N: usize> ToValue for [u64; N] {
    fn value(&self) -> Option<Value> {
        Some(Value::List(self.iter().map(|&value| Value::Integer(value)).collect()))
    }
}
