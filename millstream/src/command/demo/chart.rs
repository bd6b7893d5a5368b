//! A small chart in the terminal.

use textplots::{Chart, LabelBuilder, LabelFormat, Plot, Shape};

/// Size in dots; a character is two wide and four high.
const WIDTH: u32 = 140;
const HEIGHT: u32 = 40;

/// Draws values, evenly spaced, with labels for the first, the last, the lowest and the highest.
pub(super) fn draw(values: &[f64], first: &str, last: &str, unit: &'static str) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "a dot is coarser than any of this"
    )]
    let points: Vec<(f32, f32)> =
        values.iter().enumerate().map(|(place, value)| (place as f32, *value as f32)).collect();
    let Some((end, _)) = points.last().copied().filter(|_| points.len() > 1) else { return String::new() };
    let (first, last) = (first.to_owned(), last.to_owned());
    let shape = Shape::Lines(&points);
    let mut chart = Chart::new(WIDTH, HEIGHT, 0.0, end);
    let label =
        LabelFormat::Custom(Box::new(move |place| if place > 0.0 { last.clone() } else { first.clone() }));
    let chart = chart
        .lineplot(&shape)
        .x_label_format(label)
        .y_label_format(LabelFormat::Custom(Box::new(move |value| format!("{value:.0} {unit}"))));
    chart.figures();
    chart.to_string()
}

#[cfg(test)]
mod tests {
    use super::draw;

    #[test]
    fn a_chart_has_its_labels() {
        let chart = draw(&[1.0, 5.0, 3.0], "Jan", "Dec", "°F");
        for label in ["1 °F", "5 °F", "Jan", "Dec"] {
            assert!(chart.contains(label), "{chart}");
        }
        assert_eq!(draw(&[1.0], "a", "b", ""), "");
    }
}
