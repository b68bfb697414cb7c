//! Kernels without their code: what the generated Rust depends on, quickly read.
//!
//! Kernels of thousands of unrolled lines take a parser seconds in an unoptimised build script.
//! Their headers take none. Lines keep their numbers.

/// PTX without comments, and without code but for the declarations of shared memory.
pub fn of_ptx(text: &str) -> String {
    let bare = without_comments(text);
    let Some(open) = bare.find(".entry").and_then(|at| Some(at + bare[at..].find('{')?)) else {
        return bare;
    };
    let end = bare.rfind('}').filter(|&end| end > open).unwrap_or(bare.len());
    let mut result = String::with_capacity(bare.len());
    result.push_str(&bare[..=open]);
    for statement in bare[open + 1..end].split_inclusive(';') {
        let start = statement.find(|c: char| !c.is_whitespace() && !matches!(c, '{' | '}'));
        match start {
            Some(start) if statement[start..].starts_with(".shared") => {
                result.extend(newlines(&statement[..start]));
                result.push_str(&statement[start..]);
            }
            _ => result.extend(newlines(statement)),
        }
    }
    result.push_str("ret;");
    result.push_str(&bare[end..]);
    result
}

/// WGSL without comments, and without functions but for an empty entry point.
pub fn of_wgsl(text: &str) -> String {
    let bare = without_comments(text);
    let mut result = String::with_capacity(bare.len());
    for declaration in declarations(&bare) {
        let head = declaration.find('{').map_or(declaration, |body| &declaration[..body]);
        let function = head.split(|c: char| !c.is_alphanumeric()).any(|word| word == "fn");
        if !function {
            result.push_str(declaration);
        } else if head.contains("@compute") {
            result.push_str(head);
            result.push_str("{}");
            result.extend(newlines(&declaration[head.len()..]));
        } else {
            result.extend(newlines(declaration));
        }
    }
    result
}

/// What ends at a `;` or `}` outside of all braces.
fn declarations(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    text.split_inclusive(move |c| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && matches!(c, '}' | ';')
    })
}

fn newlines(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|&c| c == '\n')
}

/// The text without `//` and `/* */`.
fn without_comments(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('/') {
        let (before, comment) = rest.split_at(at);
        result.push_str(before);
        let end = match comment.get(..2) {
            Some("//") => comment.find('\n').unwrap_or(comment.len()),
            Some("/*") => comment.find("*/").map_or(comment.len(), |end| end + 2),
            _ => {
                result.push('/');
                rest = &comment[1..];
                continue;
            }
        };
        result.push(' ');
        result.extend(newlines(&comment[..end]));
        rest = &comment[end..];
    }
    result.push_str(rest);
    result
}
