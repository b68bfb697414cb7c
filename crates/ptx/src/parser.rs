//! The module: its header, its variables and its kernels.

use crate::ast::{Directive, Entry, Module, Parameter, Pointer};
use crate::body;
use crate::cursor::Cursor;
use crate::error::{Result, fail};
use crate::lexer::{Kind, Position, Token, tokens};
use crate::matching::Header;
use crate::scope::{Meaning, Scopes};
use crate::types::{Space, Type};
use crate::variable;

/// What every part of the parser works on.
pub(crate) struct Parser<'a> {
    pub cursor: Cursor<'a>,
    pub scopes: Scopes,
    pub header: Header,
}

/// Parses and checks a module.
pub(crate) fn module(source: &str) -> Result<Module> {
    let mut parser = Parser {
        cursor: Cursor::new(tokens(source)?),
        scopes: Scopes::new(),
        header: Header::default(),
    };
    let version = parser.version()?;
    let targets = parser.targets()?;
    let address_size = parser.address_size()?;
    let mut module =
        Module { version, targets, address_size, variables: Vec::new(), entries: Vec::new() };
    while parser.cursor.peek().kind != Kind::End {
        parser.item(&mut module)?;
    }
    Ok(module)
}

impl<'a> Parser<'a> {
    /// Takes a directive of the header, which must come now.
    fn header_directive(&mut self, name: &str, order: &str) -> Result<Token<'a>> {
        let token = self.cursor.peek();
        if self.cursor.take_dotted(name) {
            return Ok(token);
        }
        fail(
            token.position,
            format!(
                "expected `.{name}` {order}, found {}: a module begins with .version, .target, .address_size",
                token.shown()
            ),
        )
    }

    fn version(&mut self) -> Result<(u32, u32)> {
        self.header_directive("version", "first")?;
        let token = self.cursor.next();
        let parts = token.text.split_once('.');
        let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse::<u32>().ok(),
            false => None,
        };
        let parsed = parts.and_then(|(major, minor)| Some((number(major)?, number(minor)?)));
        match parsed {
            Some(version) if token.kind == Kind::Number => {
                self.header.version = version;
                Ok(version)
            }
            _ => fail(
                token.position,
                format!("expected a version such as 7.0, found {}", token.shown()),
            ),
        }
    }

    fn targets(&mut self) -> Result<Vec<String>> {
        self.header_directive("target", "after `.version`")?;
        let mut targets = Vec::new();
        loop {
            let token = self.cursor.name("a target such as sm_80")?;
            let number = token.text.strip_prefix("sm_");
            let specific = number.is_some_and(|text| text.ends_with(['a', 'f']));
            let number = number.map(|text| text.trim_end_matches(['a', 'f']));
            match number.map(str::parse::<u32>) {
                Some(Ok(target)) if targets.is_empty() => {
                    self.header.target = target;
                    self.header.specific = specific;
                }
                None if token.text == "debug" && !targets.is_empty() => {}
                _ => {
                    return fail(
                        token.position,
                        format!("expected one target such as sm_80, found {}", token.shown()),
                    );
                }
            }
            targets.push(token.text.to_owned());
            if !self.cursor.take(",") {
                return Ok(targets);
            }
        }
    }

    fn address_size(&mut self) -> Result<u32> {
        self.header_directive("address_size", "after `.target`")?;
        let at = self.cursor.position();
        match self.cursor.count("the address size")? {
            64 => Ok(64),
            other => fail(
                at,
                format!("expected `.address_size 64`, found {other}: others are not supported"),
            ),
        }
    }

    fn item(&mut self, module: &mut Module) -> Result<()> {
        let mut linkage: Option<Token<'_>> = None;
        loop {
            let token = self.cursor.peek();
            match (token.kind, token.text) {
                (Kind::Dotted, "visible" | "extern" | "weak") if linkage.is_none() => {
                    linkage = Some(self.cursor.next());
                }
                (Kind::Dotted, "entry") => {
                    if let Some(external) = linkage.filter(|token| token.text == "extern") {
                        return fail(
                            external.position,
                            "a kernel cannot be `.extern`: write `.visible .entry`",
                        );
                    }
                    let entry = self.entry()?;
                    module.entries.push(entry);
                    return Ok(());
                }
                (Kind::Dotted, "shared" | "global" | "const" | "local") => {
                    let external = linkage.is_some_and(|token| token.text == "extern");
                    module.variables.extend(variable::declaration(self, external)?);
                    return Ok(());
                }
                (Kind::Dotted, "file" | "section" | "loc") if linkage.is_none() => {
                    return self.skip_debug();
                }
                _ => return fail(token.position, refused(token)),
            }
        }
    }

    /// Skips `.file`, `.loc` (to the end of their line) or `.section name { … }`.
    pub fn skip_debug(&mut self) -> Result<()> {
        let directive = self.cursor.next();
        if directive.text != "section" {
            while self.cursor.position().line == directive.position.line
                && self.cursor.peek().kind != Kind::End
            {
                self.cursor.next();
            }
            return Ok(());
        }
        self.cursor.next();
        self.cursor.expect("{", "after the name of a section")?;
        while !self.cursor.peek().is("}") {
            if self.cursor.next().kind == Kind::End {
                return fail(directive.position, "this section has no `}`: close it");
            }
        }
        self.cursor.next();
        Ok(())
    }

    fn entry(&mut self) -> Result<Entry> {
        self.cursor.next();
        let name = self.cursor.name("the kernel's name")?;
        self.scopes.declare(name.text, Meaning::Entry, name.position)?;
        self.scopes.enter();
        let parameters = self.parameters()?;
        let directives = self.directives()?;
        let body = body::entry(self)?;
        self.scopes.leave();
        Ok(Entry {
            name: name.text.to_owned(),
            parameters,
            directives,
            body,
            line: name.position.line,
        })
    }

    fn parameters(&mut self) -> Result<Vec<Parameter>> {
        let mut parameters: Vec<Parameter> = Vec::new();
        if !self.cursor.take("(") || self.cursor.take(")") {
            return Ok(parameters);
        }
        let mut bytes = 0u64;
        loop {
            let at = self.cursor.position();
            let parameter = self.parameter()?;
            bytes = bytes
                .next_multiple_of(u64::from(parameter.align.max(1)))
                .saturating_add(parameter.size());
            let limit = match self.header.version >= (8, 1) && self.header.target >= 70 {
                true => 32_764,
                false => 4096,
            };
            if bytes > limit {
                return fail(
                    at,
                    format!(
                        "the parameters take {bytes} bytes up to here, at most {limit} are possible"
                    ),
                );
            }
            parameters.push(parameter);
            if !self.cursor.take(",") {
                self.cursor.expect(")", "or `,` after a parameter")?;
                return Ok(parameters);
            }
        }
    }

    fn parameter(&mut self) -> Result<Parameter> {
        let token = self.cursor.peek();
        if !self.cursor.take_dotted("param") {
            return fail(token.position, format!("expected `.param`, found {}", token.shown()));
        }
        let mut align = variable::align(self)?;
        let ty = variable::ty(self, "a parameter")?;
        let pointer = match self.cursor.take_dotted("ptr") {
            true => Some(self.pointer()?),
            false => None,
        };
        if align.is_none() && pointer.is_none() {
            align = variable::align(self)?;
        }
        let name = self.cursor.name("the parameter's name")?;
        let array = match self.cursor.take("[") {
            true => {
                let count = self.cursor.count("the number of elements")?;
                self.cursor.expect("]", "after the number of elements")?;
                Some(count)
            }
            false => None,
        };
        let size = u64::from(ty.bytes()) * u64::from(array.unwrap_or(1));
        self.scopes.declare(
            name.text,
            Meaning::Variable(Space::Param, Some(size)),
            name.position,
        )?;
        Ok(Parameter {
            name: name.text.to_owned(),
            ty,
            align: align.unwrap_or(ty.bytes()),
            array,
            pointer,
            line: name.position.line,
        })
    }

    fn pointer(&mut self) -> Result<Pointer> {
        let spaces = ["global", "shared", "local", "const"];
        let named = spaces.into_iter().find(|name| self.cursor.take_dotted(name));
        let align = variable::align(self)?.unwrap_or(4);
        Ok(Pointer { space: named.and_then(Space::from_name).unwrap_or(Space::Generic), align })
    }

    fn directives(&mut self) -> Result<Vec<Directive>> {
        let mut found: Vec<Directive> = Vec::new();
        while self.cursor.peek().kind == Kind::Dotted {
            let token = self.cursor.next();
            let directive = match token.text {
                "maxntid" => Directive::MaxThreads(self.shape()?),
                "reqntid" => Directive::RequiredThreads(self.shape()?),
                "minnctapersm" => Directive::MinBlocks(self.cursor.count("a number of blocks")?),
                "maxnreg" => Directive::MaxRegisters(self.cursor.count("a number of registers")?),
                "reqnctapercluster" => Directive::RequiredCluster(self.shape()?),
                "explicitcluster" => Directive::ExplicitCluster,
                "maxclusterrank" => {
                    Directive::MaxClusterRank(self.cursor.count("a number of blocks")?)
                }
                "blocksareclusters" => Directive::BlocksAreClusters,
                _ => {
                    return fail(
                        token.position,
                        format!("unknown performance directive {}", token.shown()),
                    );
                }
            };
            self.refuse_directive(&found, directive, token)?;
            found.push(directive);
        }
        Ok(found)
    }

    fn refuse_directive(
        &self,
        before: &[Directive],
        new: Directive,
        token: Token<'_>,
    ) -> Result<()> {
        use std::mem::discriminant;
        let at: Position = token.position;
        if before.iter().any(|one| discriminant(one) == discriminant(&new)) {
            return fail(at, format!("{} stands twice: drop one", token.shown()));
        }
        let pairs = |one: &Directive| match (one, &new) {
            (Directive::MaxThreads(_), Directive::RequiredThreads(_))
            | (Directive::RequiredThreads(_), Directive::MaxThreads(_)) => Some(
                "`.maxntid` and `.reqntid` exclude each other: keep `.reqntid` if the shape is exact",
            ),
            (Directive::RequiredCluster(_), Directive::MaxClusterRank(_))
            | (Directive::MaxClusterRank(_), Directive::RequiredCluster(_)) => {
                Some("`.reqnctapercluster` and `.maxclusterrank` exclude each other: keep one")
            }
            _ => None,
        };
        if let Some(message) = before.iter().find_map(pairs) {
            return fail(at, message);
        }
        let needed = match new {
            Directive::RequiredCluster(_)
            | Directive::ExplicitCluster
            | Directive::MaxClusterRank(_) => ((7, 8), 90),
            Directive::BlocksAreClusters => ((9, 0), 90),
            _ => ((0, 0), 0),
        };
        if self.header.version < needed.0 || self.header.target < needed.1 {
            let ((major, minor), target) = needed;
            return fail(
                at,
                format!(
                    "{} needs `.version {major}.{minor}` and `.target sm_{target}`",
                    token.shown()
                ),
            );
        }
        match new {
            Directive::MaxRegisters(0 | 256..) => fail(at, "expected `.maxnreg` of 1 to 255"),
            Directive::MaxThreads(shape) | Directive::RequiredThreads(shape) => threads(shape, at),
            _ => Ok(()),
        }
    }

    /// One to three extents; missing ones are 1.
    fn shape(&mut self) -> Result<[u32; 3]> {
        let mut shape = [1; 3];
        for (index, extent) in shape.iter_mut().enumerate() {
            if index > 0 && !self.cursor.take(",") {
                break;
            }
            let at = self.cursor.position();
            *extent = self.cursor.count("an extent")?;
            if *extent == 0 {
                return fail(at, "an extent is at least 1");
            }
        }
        Ok(shape)
    }
}

/// Refuses shapes that no launch can have.
fn threads([x, y, z]: [u32; 3], at: Position) -> Result<()> {
    let product = u64::from(x).saturating_mul(u64::from(y)).saturating_mul(u64::from(z));
    if product > 1024 || z > 64 {
        return fail(
            at,
            format!("{x} x {y} x {z} threads: a block has at most 1024, of which 64 along z"),
        );
    }
    Ok(())
}

/// Why a token cannot begin an item of the module.
fn refused(token: Token<'_>) -> String {
    let found = token.shown();
    match (token.kind, token.text) {
        (Kind::Dotted, "func") => {
            "`.func` is not supported: let a template expand the code where it is used".into()
        }
        (Kind::Dotted, "version" | "target" | "address_size") => {
            format!(
                "{found} stands a second time or out of order: .version, .target, .address_size"
            )
        }
        (Kind::Dotted, "alias" | "common" | "pragma" | "tex" | "callprototype") => {
            format!("{found} is not supported in a module")
        }
        (Kind::Dotted, _) => format!(
            "unknown directive {found}: expected .visible, .entry, .shared, .global or .const"
        ),
        _ => format!("expected a directive such as `.visible .entry`, found {found}"),
    }
}

/// The types that variables and registers are declared with.
pub(crate) fn declarable(name: &str) -> Option<Type> {
    Type::from_name(name).filter(|ty| ty.class() != crate::types::Class::Encoded)
}
