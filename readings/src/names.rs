//! Which names a column may have.

/// Characters that Delta without column mapping refuses in a column's name.
const REFUSED: &str = " ,;{}()\n\t=";

/// Longest name, in bytes: what every catalog and file system along the way takes.
const NAME_MAX: usize = 255;

/// Whether a table may have a column of this name. A dot is fine (`PM2.5`).
pub(crate) fn is_legal(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_MAX
        && !name.contains(|c: char| c.is_control() || REFUSED.contains(c))
}

/// The form in which names are compared: readers take two that differ only by case for the same.
pub(crate) fn fold(name: &str) -> String {
    name.to_lowercase()
}
