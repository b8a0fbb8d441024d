//! Markdown to man page, as far as the documents of this repository go: headings, paragraphs, lists, tables, code
//! blocks, and in a line code, strong words and links.

use roff::{Inline, Roff, bold, roman};

/// What stands under a `##`, down to the next one.
pub fn chapter<'a>(text: &'a str, title: &str) -> Option<&'a str> {
    let body = text.split_once(&format!("\n## {title}\n"))?.1;
    Some(body.find("\n## ").map_or(body, |end| &body[..end]))
}

/// Adds a document to a page. Its title is left out, a `##` becomes a section.
pub fn convert(text: &str, page: &mut Roff) {
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("```") {
            page.control("PP", []).control("RS", ["4"]).control("nf", []);
            for code in lines.by_ref().take_while(|line| !line.starts_with("```")) {
                page.text([roman(code)]);
            }
            page.control("fi", []).control("RE", []);
        } else if let Some(heading) = line.strip_prefix("## ") {
            // In capitals as is the custom, unless it names a section of the configuration.
            let heading = if heading.contains('`') { plain(heading) } else { heading.to_uppercase() };
            page.control("SH", []).text([roman(heading)]);
        } else if let Some(heading) = line.strip_prefix("### ") {
            page.control("SS", []).text([roman(plain(heading))]);
        } else if line.starts_with('|') {
            let rows = std::iter::from_fn(|| lines.next_if(|line| line.starts_with('|')));
            table(line, &rows.collect::<Vec<_>>(), page);
        } else if !line.is_empty() && !line.starts_with("# ") {
            // A paragraph or an item of a list goes on until something else begins.
            let goes_on = |line: &&str| !line.is_empty() && !line.starts_with("```") && bullet(line).is_none();
            let mut whole = line.to_owned();
            while let Some(more) = lines.next_if(goes_on) {
                whole.push(' ');
                whole.push_str(more.trim_start());
            }
            match bullet(&whole) {
                Some((mark, item)) => page.control("IP", [mark, "3"]).text(inline(item)),
                None => page.control("PP", []).text(inline(&whole)),
            };
        }
    }
}

/// The mark and the text of an item: `* text`, `1. text`.
fn bullet(line: &str) -> Option<(&str, &str)> {
    if let Some(item) = line.strip_prefix("* ") {
        return Some(("\\(bu", item));
    }
    let dot = line.find(". ")?;
    let number = line[..dot].bytes().all(|byte| byte.is_ascii_digit()) && dot > 0;
    number.then(|| (&line[..=dot], &line[dot + 2..]))
}

/// A row becomes an entry: its first cell, and below it the others. With more than two columns each is named, but for
/// the one that is the entry's meaning, which comes first.
fn table(head: &str, rows: &[&str], page: &mut Roff) {
    let names = cells(head);
    for row in rows.iter().skip(1).map(|row| cells(row)) {
        page.control("TP", []).text(inline(row[0]));
        let mut others: Vec<_> = names.iter().zip(&row).skip(1).collect();
        others.sort_by_key(|(name, _)| **name != "meaning");
        for (place, (name, cell)) in others.iter().enumerate() {
            if place > 0 {
                page.control("br", []);
            }
            let named = names.len() > 2 && **name != "meaning";
            let text = if named { format!("{name}: {cell}") } else { (**cell).to_owned() };
            page.text(inline(&text));
        }
    }
}

fn cells(row: &str) -> Vec<&str> {
    row.trim_matches('|').split(" | ").map(str::trim).collect()
}

/// The words of a line without what marks them.
fn plain(text: &str) -> String {
    text.replace(['`', '*'], "")
}

/// Code and strong words are bold; of a link only the text is kept.
/// Marked text of one line.
pub fn inline(text: &str) -> Vec<Inline> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(['`', '[', '*']) {
        let (before, marked) = rest.split_at(start);
        parts.push(roman(before));
        let taken = delimited(marked, "`", "`")
            .or_else(|| delimited(marked, "**", "**"))
            .map(|(inner, after)| (vec![bold(inner)], after))
            .or_else(|| link(marked).map(|(words, after)| (inline(words), after)));
        // A character that marks nothing stands for itself.
        let (inlines, after) = taken.unwrap_or_else(|| (vec![roman(&marked[..1])], &marked[1..]));
        parts.extend(inlines);
        rest = after;
    }
    parts.push(roman(rest));
    parts
}

fn delimited<'a>(text: &'a str, open: &str, close: &str) -> Option<(&'a str, &'a str)> {
    text.strip_prefix(open)?.split_once(close)
}

fn link(text: &str) -> Option<(&str, &str)> {
    let (words, after) = delimited(text, "[", "](")?;
    // `[workers] drain_timeout … [docs](…)`: the first bracket is none of a link.
    let inner = !words.contains(']');
    inner.then(|| after.split_once(')').map(|(_, after)| (words, after))).flatten()
}
