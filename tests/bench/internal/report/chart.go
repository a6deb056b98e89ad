package report

import (
	"errors"
	"fmt"
	"image/color"
	"math"
	"os"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Panel is one part of a picture: for each name a ratio in each series, on a logarithmic axis.
type Panel struct {
	Title  string
	Axis   string // what the ratio is, and which side is better
	Names  []string
	Marked string // the name that the picture is about
	Series []Series
}

// Series is one figure of every name, in the order of Panel.Names. NaN leaves one out.
type Series struct {
	Name   string
	Ratios []float64
}

// Colours that also differ for those who see few.
var palette = []color.Color{
	color.RGBA{R: 0x00, G: 0x72, B: 0xb2, A: 0xff},
	color.RGBA{R: 0xd5, G: 0x5e, B: 0x00, A: 0xff},
	color.RGBA{R: 0x00, G: 0x9e, B: 0x73, A: 0xff},
}

var shapes = []draw.GlyphDrawer{draw.CircleGlyph{}, draw.PyramidGlyph{}, draw.BoxGlyph{}}

const (
	width       = 16 * vg.Centimeter
	rowHeight   = 0.62 * vg.Centimeter
	frameHeight = 3.6 * vg.Centimeter // title, axis and its label, margins
	margin      = 0.25 * vg.Centimeter
)

// WriteSVG draws the panels below one another into a file.
func WriteSVG(file string, panels []Panel) (err error) {
	if len(panels) == 0 {
		return errors.New("there is nothing to draw: neither L1 hits nor L2 hits were measured")
	}
	var height vg.Length
	plots := make([]*plot.Plot, len(panels))
	heights := make([]vg.Length, len(panels))
	for i, panel := range panels {
		if plots[i], err = panel.plot(); err != nil {
			return fmt.Errorf("drawing %q: %w", panel.Title, err)
		}
		heights[i] = frameHeight + rowHeight*vg.Length(len(panel.Names))
		height += heights[i]
	}
	canvas := vgsvg.New(width, height)
	whole := draw.New(canvas)
	whole.FillPolygon(color.White, []vg.Point{{}, {X: width}, {X: width, Y: height}, {Y: height}})
	top := height
	for i, p := range plots {
		bottom := top - heights[i]
		p.Draw(draw.Crop(whole, margin, -margin, bottom+margin, top-height-margin))
		top = bottom
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = canvas.WriteTo(f)
	return err
}

func (p Panel) plot() (*plot.Plot, error) {
	chart := plot.New()
	chart.Title.Text = p.Title
	chart.X.Label.Text = p.Axis
	chart.X.Scale = plot.LogScale{}
	chart.X.Tick.Marker = ratioTicks{}
	chart.Legend.Top = true
	chart.BackgroundColor = color.White

	grid := plotter.NewGrid()
	grid.Horizontal.Color = color.Gray{Y: 0xe0}
	grid.Vertical.Color = color.Gray{Y: 0xe0}
	chart.Add(grid)

	labels := make([]string, len(p.Names))
	for i, name := range p.Names {
		labels[len(labels)-1-i] = name // the first is to be at the top
	}
	chart.NominalY(labels...)
	one, err := plotter.NewLine(plotter.XYs{{X: 1, Y: -0.5}, {X: 1, Y: float64(len(p.Names)) - 0.5}})
	if err != nil {
		return nil, err
	}
	one.Color = color.Gray{Y: 0x60}
	chart.Add(one)
	for i, series := range p.Series {
		if err := p.points(chart, series, palette[i%len(palette)], shapes[i%len(shapes)]); err != nil {
			return nil, err
		}
	}
	chart.X.Min, chart.X.Max = chart.X.Min*0.8, chart.X.Max*1.25
	chart.Y.Min, chart.Y.Max = -0.7, float64(len(p.Names))-0.3
	return chart, nil
}

// points adds a series; the points of the marked name are larger.
func (p Panel) points(chart *plot.Plot, series Series, tint color.Color, shape draw.GlyphDrawer) error {
	var all plotter.XYs
	var marked []bool
	for i, ratio := range series.Ratios {
		if math.IsNaN(ratio) || math.IsInf(ratio, 0) || ratio <= 0 {
			continue
		}
		all = append(all, plotter.XY{X: ratio, Y: float64(len(p.Names) - 1 - i)})
		marked = append(marked, p.Names[i] == p.Marked)
	}
	if len(all) == 0 {
		return nil
	}
	scatter, err := plotter.NewScatter(all)
	if err != nil {
		return err
	}
	style := func(radius vg.Length) draw.GlyphStyle {
		return draw.GlyphStyle{Color: tint, Shape: shape, Radius: radius}
	}
	scatter.GlyphStyle = style(vg.Points(3.5))
	scatter.GlyphStyleFunc = func(i int) draw.GlyphStyle {
		if marked[i] {
			return style(vg.Points(6))
		}
		return style(vg.Points(3.5))
	}
	chart.Add(scatter)
	chart.Legend.Add(series.Name, scatter)
	return nil
}

// ratioTicks labels 0.01, 0.02, 0.05, 0.1 and so on.
type ratioTicks struct{}

func (ratioTicks) Ticks(low, high float64) []plot.Tick {
	var ticks []plot.Tick
	for decade := math.Floor(math.Log10(low)); decade <= math.Ceil(math.Log10(high)); decade++ {
		for _, step := range []float64{1, 2, 5} {
			at := step * math.Pow(10, decade)
			if at >= low && at <= high {
				ticks = append(ticks, plot.Tick{Value: at, Label: fmt.Sprintf("%.3g", at)})
			}
		}
	}
	return ticks
}
