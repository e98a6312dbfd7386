//! Curves, as SVG.

use crate::Failure;
use plotters::prelude::*;
use std::path::Path;

/// Curves over one axis.
pub struct Plot {
    /// Above it.
    pub title: &'static str,
    /// What the axis to the right counts; drawn logarithmically.
    pub x: &'static str,
    /// What the other counts, from 0.
    pub y: &'static str,
    /// Each with its name, its points by `x`.
    pub curves: Vec<(String, Vec<(f64, f64)>)>,
}

impl Plot {
    /// Whether there is a curve to see.
    pub fn is_worth_it(&self) -> bool {
        self.curves.iter().any(|(_, points)| points.len() > 1)
    }

    /// Draws it.
    pub fn draw(&self, file: &Path) -> Result<(), Failure> {
        self.try_draw(file)
            .map_err(|e| Failure::Environment(format!("{}: {e}", file.display())))
    }

    fn try_draw(&self, file: &Path) -> Result<(), Box<dyn std::error::Error>> {
        let points = || self.curves.iter().flat_map(|(_, points)| points);
        let left = points().map(|p| p.0).fold(f64::MAX, f64::min);
        let right = points().map(|p| p.0).fold(f64::MIN, f64::max);
        let top = 1.1 * points().map(|p| p.1).fold(0.0, f64::max);
        let area = SVGBackend::new(file, (800, 440)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(45)
            .y_label_area_size(65)
            .build_cartesian_2d((left..right).log_scale(), 0.0..top)?;
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .x_label_formatter(&|x| short(*x))
            .y_label_formatter(&|y| short(*y))
            .draw()?;
        for (at, (name, points)) in self.curves.iter().enumerate() {
            let colour = Palette99::pick(at).to_rgba();
            let line =
                LineSeries::new(points.iter().copied(), colour.stroke_width(2)).point_size(3);
            chart.draw_series(line)?.label(name).legend(move |(x, y)| {
                PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2))
            });
        }
        chart
            .configure_series_labels()
            .border_style(BLACK.mix(0.3))
            .background_style(WHITE.mix(0.8))
            .draw()?;
        Ok(area.present()?)
    }
}

/// As people write it: 400k, 2M, 0.5.
fn short(value: f64) -> String {
    let (value, unit) = match value {
        v if v >= 1e6 => (v / 1e6, "M"),
        v if v >= 1e4 => (v / 1e3, "k"),
        v => (v, ""),
    };
    let text = format!("{value:.2}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_short() {
        let labels = [0.5, 0.0, 200.0, 40_000.0, 1_000_000.0].map(short);
        assert_eq!(labels, ["0.5", "0", "200", "40k", "1M"]);
    }
}
