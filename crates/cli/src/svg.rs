//! Text of SVG, element by element.

use std::fmt::{Display, Write};

/// An element, with its attributes and what is in it.
#[derive(Clone, Debug)]
pub struct Element {
    name: &'static str,
    attributes: String,
    content: String,
}

impl Element {
    /// An empty element.
    pub fn new(name: &'static str) -> Self {
        Self { name, attributes: String::new(), content: String::new() }
    }

    /// With an attribute.
    pub fn with(mut self, name: &str, value: impl Display) -> Self {
        // Writing to a text does not fail.
        let _ = write!(self.attributes, " {name}=\"{}\"", escaped(&value.to_string()));
        self
    }

    /// With text in it.
    pub fn text(mut self, text: impl Display) -> Self {
        self.content += &escaped(&text.to_string());
        self
    }

    /// With another element in it.
    pub fn child(mut self, child: &Self) -> Self {
        self.add(child);
        self
    }

    /// Puts another element in it.
    pub fn add(&mut self, child: &Self) {
        self.content += &child.to_text();
    }

    /// As it stands in a file.
    pub fn to_text(&self) -> String {
        let Self { name, attributes, content } = self;
        let gap = if *name == "text" || *name == "title" || *name == "tspan" { "" } else { "\n" };
        match content.is_empty() {
            true => format!("<{name}{attributes}/>\n"),
            false => format!("<{name}{attributes}>{gap}{content}</{name}>\n"),
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A rectangle.
pub fn rect(x: f64, y: f64, width: f64, height: f64) -> Element {
    let rect = Element::new("rect").with("x", x).with("y", y);
    rect.with("width", width).with("height", height)
}

/// A line of text.
pub fn text(x: f64, y: f64, class: &str, text: &str) -> Element {
    Element::new("text").with("x", x).with("y", y).with("class", class).text(text)
}

/// The same, centred.
pub fn middle(x: f64, y: f64, class: &str, words: &str) -> Element {
    text(x, y, class, words).with("text-anchor", "middle")
}
