//! Plots the cost of a validation against the number of keys, and the validations of one hot key
//! against the number of threads. Run
//! `cargo run --release --manifest-path benches/rivals/Cargo.toml --bin plot`; it writes to
//! `docs/plots`. Ten million keys need about 7 GiB and three minutes; `-- 1000000` stops at a million.

use plotters::prelude::*;
use rivals::{
    Rival,
    keys::{Hash, HashAndMiss, Portcullis},
    maps::{LockFree, Locked, Sharded},
    timing,
};
use std::{env, error::Error, fs, iter, ops::Range, path::PathBuf};

const LARGEST: usize = 10_000_000;
/// The number of headers. They are read in order; their keys are at random positions.
const WALK: usize = 2_000_000;
const ROUNDS: usize = 31;
const THREADS: [usize; 5] = [1, 2, 4, 8, 16];
const SIZE: (u32, u32) = (760, 420);

struct Line {
    name: &'static str,
    points: Vec<(f64, f64)>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let largest = env::args().nth(1).map_or(Ok(LARGEST), |count| count.parse())?;
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/plots"));
    fs::create_dir_all(&dir)?;
    let lines = cost_by_keys(largest);
    draw(
        &dir.join("keys.svg"),
        "One validation, as a multiple of blake3::hash of the key",
        ("keys, in random order", 10.0..largest as f64),
        &lines,
    )?;
    let lines = throughput_by_threads();
    draw(
        &dir.join("threads.svg"),
        "Validations of one hot key, as a multiple of one thread of Portcullis",
        ("threads", 1.0..16.0),
        &lines,
    )?;
    Ok(())
}

fn cost_by_keys(largest: usize) -> Vec<Line> {
    let counts: Vec<_> = iter::successors(Some(10), |count| Some(count * 10))
        .take_while(|count| *count <= largest)
        .collect();
    let names = ["portcullis", "hash and one miss", "RwLock<HashMap>", "dashmap"];
    let mut lines = names.map(|name| Line { name, points: Vec::new() });
    for count in counts {
        let mut house = Portcullis::with_keys(count);
        let walked = timing::shuffled(&house.keys, WALK.min(count * 10));
        house.headers = walked.headers().into();
        let hash = Hash(&walked);
        let miss = HashAndMiss::over(&walked, count);
        let mut figures = vec![
            timing::walk_ratio(&house, &hash, ROUNDS),
            timing::walk_ratio(&miss, &hash, ROUNDS),
        ];
        // One rival at a time, for their memory.
        figures.push(timing::walk_ratio(&Locked::beside(&house), &hash, ROUNDS));
        figures.push(timing::walk_ratio(&Sharded::beside(&house), &hash, ROUNDS));
        for (line, figure) in lines.iter_mut().zip(figures) {
            println!("{count} keys, {} / blake3::hash: {figure:.2}", line.name);
            line.points.push((count as f64, figure));
        }
    }
    lines.into()
}

fn throughput_by_threads() -> Vec<Line> {
    let house = Portcullis::with_keys(10_000);
    let one = timing::hammer(&house, 1);
    let line = |rival: &(dyn Rival + Sync)| {
        let point = |threads| {
            let best = (0..3).map(|_| timing::hammer(rival, threads)).fold(0.0, f64::max);
            println!("{threads} threads, {}: {:.2}", rival.name(), best / one);
            (threads as f64, best / one)
        };
        Line { name: rival.name(), points: THREADS.into_iter().map(point).collect() }
    };
    vec![
        line(&house),
        line(&LockFree::beside(&house)),
        line(&Locked::beside(&house)),
        line(&Sharded::beside(&house)),
    ]
}

fn draw(
    path: &std::path::Path,
    title: &str,
    (x_name, x): (&str, Range<f64>),
    lines: &[Line],
) -> Result<(), Box<dyn Error>> {
    let highest = lines.iter().flat_map(|line| &line.points).map(|(_, y)| *y).fold(0.0, f64::max);
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 17))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(48)
        .build_cartesian_2d(x.log_scale(), 0.0..highest * 1.1)?;
    let count = |x: &f64| match *x {
        x if x >= 1e6 => format!("{}M", x / 1e6),
        x if x >= 1e3 => format!("{}k", x / 1e3),
        x => format!("{x}"),
    };
    chart
        .configure_mesh()
        .x_desc(x_name)
        .x_label_formatter(&count)
        .light_line_style(WHITE)
        .draw()?;
    let colours = [
        RGBColor(20, 90, 180),
        RGBColor(120, 120, 120),
        RGBColor(200, 80, 30),
        RGBColor(60, 140, 70),
    ];
    for (line, colour) in lines.iter().zip(colours) {
        let style = colour.stroke_width(2);
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), style).point_size(3))?
            .label(line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(RGBColor(200, 200, 200))
        .draw()?;
    root.present()?;
    Ok(())
}
