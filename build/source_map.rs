//! From a line of the expanded text back to a line of a template.
//!
//! A template engine forgets where its output came from. So a template is expanded a second
//! time with a mark before the first word of each of its lines, `\u{1}file:line\u{2}`; what is
//! left when the marks are taken out is the expansion, and the marks say whose lines they are,
//! also for the lines of a macro. Marks stand in text only, never inside a tag.
//!
//! The same pass over the source does two things for authors of PTX and WGSL:
//!
//! * A line that holds nothing but `{% … %}` and `{# … #}`, without `-` or `+`, leaves no line
//!   behind: its newline moves into the tag, so that line numbers stay.
//! * `{%name` is a brace before a register, `{%low, %high}`, and no tag: tags have a space, or
//!   `-` or `+`, after `{%`.

const OPEN: char = '\u{1}';
const CLOSE: char = '\u{2}';

/// A line of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Index of the template.
    pub file: usize,
    /// The line, from 1.
    pub line: u32,
}

/// A line that the template engine would misread.
#[derive(Debug)]
pub struct Misread {
    /// The line, from 1.
    pub line: u32,
    /// What is wrong.
    pub message: String,
}

/// Which lines are marked.
///
/// The text of a macro may be used as a value: compared, measured, made a number. There a mark
/// does harm, and only the outcome tells; so the marks are tried in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// All lines.
    Everywhere,
    /// Not those of a macro that opens with `-%}`, as macros that give a value do.
    OutsideValues,
    /// Not those of macros.
    OutsideMacros,
}

impl Marks {
    /// All, the most telling first.
    pub const ALL: [Self; 3] = [Self::Everywhere, Self::OutsideValues, Self::OutsideMacros];

    fn admit(self, inside: Inside) -> bool {
        match self {
            Self::Everywhere => true,
            Self::OutsideValues => inside != Inside::Value,
            Self::OutsideMacros => inside == Inside::Nothing,
        }
    }
}

/// The macro that a piece stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    Nothing,
    Macro,
    /// A macro that opens with `-%}`.
    Value,
}

/// What a piece of a template is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    /// `{{ … }}`
    Expression,
    /// `{% … %}`
    Statement,
    /// `{# … #}`
    Comment,
}

#[derive(Clone, Copy, Debug)]
struct Piece<'a> {
    kind: Kind,
    text: &'a str,
    line: u32,
    inside: Inside,
}

/// The source as the template engine gets it; with marks if a file's index is given for them.
pub fn prepared(source: &str, marks: Option<(Marks, usize)>) -> Result<String, Misread> {
    let mut result = String::with_capacity(source.len() * 2);
    let mut line = Vec::new();
    for piece in pieces(source)? {
        if piece.kind != Kind::Text {
            line.push(piece);
            continue;
        }
        for (part, number) in piece.text.split_inclusive('\n').zip(piece.line..) {
            line.push(Piece { text: part, line: number, ..piece });
            if part.ends_with('\n') {
                flush(&line, marks, &mut result);
                line.clear();
            }
        }
    }
    flush(&line, marks, &mut result);
    Ok(result)
}

/// Writes one line: pieces of which only the last ends with a newline.
fn flush(line: &[Piece<'_>], marks: Option<(Marks, usize)>, into: &mut String) {
    let silent = |piece: &&Piece<'_>| {
        matches!(piece.kind, Kind::Statement | Kind::Comment) && !controls_space(piece.text)
    };
    let blank = |piece: &Piece<'_>| piece.kind == Kind::Text && piece.text.trim().is_empty();
    if let Some(last) = line.iter().rfind(silent)
        && line.iter().all(|piece| silent(&piece) || blank(piece))
    {
        let newline = line.last().is_some_and(|piece| piece.text.ends_with('\n') && blank(piece));
        for piece in line.iter().filter(silent) {
            if newline && std::ptr::eq(piece, last) {
                let (head, tail) = piece.text.split_at(piece.text.len() - 2);
                into.extend([head, "\n", tail]);
            } else {
                into.push_str(piece.text);
            }
        }
        return;
    }
    let marked = marks.and_then(|(marks, file)| {
        let at = marked_piece(line)?;
        marks.admit(line[at].inside).then_some((at, file))
    });
    for (at, piece) in line.iter().enumerate() {
        let word = piece.text.len() - piece.text.trim_start().len();
        let (space, text) = piece.text.split_at(word);
        into.push_str(space);
        if let Some((_, file)) = marked.filter(|&(marked, _)| marked == at) {
            into.push_str(&format!("{OPEN}{file}:{}{CLOSE}", piece.line));
        }
        match piece.kind {
            // What is left of `{%` in text opens a vector of registers.
            Kind::Text => into.push_str(&text.replace("{%", "{{ '{%' }}")),
            _ => into.push_str(text),
        }
    }
}

/// Whether a tag says what becomes of the white space round it.
fn controls_space(tag: &str) -> bool {
    tag[2..].starts_with(['-', '+']) || tag[..tag.len() - 2].ends_with(['-', '+'])
}

/// The piece that begins the line's text, if a mark before it changes nothing else.
fn marked_piece(line: &[Piece<'_>]) -> Option<usize> {
    let at = line.iter().position(|piece| match piece.kind {
        Kind::Text => !piece.text.trim().is_empty(),
        Kind::Expression => true,
        Kind::Statement | Kind::Comment => false,
    })?;
    // `{{-` eats the white space before it; a mark would stop it.
    let eats = line[at].text.starts_with("{{-");
    // `{% macro name() %}text` and `{% set name %}text` on one line make values, not lines.
    let value = line[..at].iter().any(|piece| {
        piece.kind == Kind::Statement && ["macro", "set", "call"].contains(&first_word(piece.text))
    });
    (!eats && !value).then_some(at)
}

fn first_word(tag: &str) -> &str {
    let inside = tag.get(2..).unwrap_or_default().trim_start_matches(['-', '+']);
    inside.split_whitespace().next().unwrap_or_default()
}

/// Splits a template into text and tags.
fn pieces(source: &str) -> Result<Vec<Piece<'_>>, Misread> {
    let mut pieces = Vec::new();
    let (mut rest, mut line, mut inside) = (source, 1, Inside::Nothing);
    while !rest.is_empty() {
        let (text, tag) = rest.split_at(next_tag(rest).unwrap_or(rest.len()));
        if !text.is_empty() {
            pieces.push(Piece { kind: Kind::Text, text, line, inside });
            line += newlines(text);
        }
        let kind = match tag.get(..2) {
            None => break,
            Some("{{") => Kind::Expression,
            Some("{%") => Kind::Statement,
            Some(_) => Kind::Comment,
        };
        let end = tag_end(tag, kind).ok_or_else(|| Misread {
            line,
            message: format!("the tag `{}` is not closed", &tag[..2]),
        })?;
        let (tag, behind) = tag.split_at(end);
        inside = match (kind, first_word(tag)) {
            (Kind::Statement, "macro") if tag.ends_with("-%}") => Inside::Value,
            (Kind::Statement, "macro") => Inside::Macro,
            (Kind::Statement, "endmacro") => Inside::Nothing,
            (Kind::Statement, "raw") => {
                let message = "`raw` is not needed here: `{%name` is no tag".to_owned();
                return Err(Misread { line, message });
            }
            _ => inside,
        };
        pieces.push(Piece { kind, text: tag, line, inside });
        line += newlines(tag);
        rest = behind;
    }
    Ok(pieces)
}

fn newlines(text: &str) -> u32 {
    u32::try_from(text.matches('\n').count()).unwrap_or(u32::MAX)
}

fn next_tag(text: &str) -> Option<usize> {
    text.match_indices('{').map(|(at, _)| at).find(|&at| {
        let mut next = text[at + 1..].chars();
        match next.next() {
            Some('{' | '#') => true,
            Some('%') => next.next().is_none_or(|c| c.is_whitespace() || matches!(c, '-' | '+')),
            _ => false,
        }
    })
}

/// Where a tag ends; quotes hide its end.
fn tag_end(tag: &str, kind: Kind) -> Option<usize> {
    let close = match kind {
        Kind::Comment => return tag.find("#}").map(|at| at + 2),
        Kind::Expression => "}}",
        _ => "%}",
    };
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in tag.char_indices().skip(2) {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '\'') => quote = Some(c),
            None if tag[at..].starts_with(close) => return Some(at + 2),
            None => {}
        }
    }
    None
}

/// Takes the marks out of an expansion; returns it with the origin of each of its lines.
pub fn stripped(marked: &str, unmarked: Origin) -> (String, Vec<Origin>) {
    let mut text = String::with_capacity(marked.len());
    let mut origins = Vec::new();
    let mut current = unmarked;
    for line in marked.split_inclusive('\n') {
        let mut begun = false;
        let mut rest = line;
        while let Some((before, after)) = rest.split_once(OPEN) {
            begun |= !before.trim().is_empty();
            text.push_str(before);
            let (mark, behind) = after.split_once(CLOSE).unwrap_or((after, ""));
            if let Some((file, line)) = mark.split_once(':')
                && let (Ok(file), Ok(line)) = (file.parse(), line.parse())
                && !begun
            {
                current = Origin { file, line };
            }
            rest = behind;
        }
        text.push_str(rest);
        origins.push(current);
    }
    (text, origins)
}

/// An expansion's origins as a table that is embedded beside it: the files on the first line,
/// then one line per run, `expanded file source`: from the expanded line on, lines come from
/// that file, counting up from the source line.
pub fn table(origins: &[Origin], files: &[String]) -> String {
    let mut used: Vec<usize> = origins.iter().map(|origin| origin.file).collect();
    used.sort_unstable();
    used.dedup();
    let named: Vec<&str> =
        used.iter().filter_map(|&file| files.get(file).map(String::as_str)).collect();
    let mut table = named.join(" ");
    table.push('\n');
    let mut expected = None;
    for (origin, line) in origins.iter().zip(1..) {
        if expected != Some(*origin) {
            let file = used.iter().position(|&file| file == origin.file).unwrap_or(0);
            let line: u32 = line;
            table.push_str(&format!("{line} {file} {}\n", origin.line));
        }
        expected = Some(Origin { line: origin.line.saturating_add(1), ..*origin });
    }
    table
}
