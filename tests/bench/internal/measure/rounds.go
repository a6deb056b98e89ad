package measure

// Rounds calls run for each of n competitors in each round. Competitors take turns within a round, so that whatever else the
// machine does meets all of them, and each round begins with another one, so that none always follows the same.
func Rounds(rounds, n int, run func(round, competitor int) error) error {
	for round := range rounds {
		for turn := range n {
			if err := run(round, (round+turn)%n); err != nil {
				return err
			}
		}
	}
	return nil
}

// Matrix holds the cells of several competitors over several rounds.
type Matrix struct {
	names []string
	cells map[string][]Cell // by round
}

// NewMatrix returns an empty matrix for competitors with these names.
func NewMatrix(names []string) *Matrix {
	return &Matrix{names: names, cells: map[string][]Cell{}}
}

// Add appends the cell of a competitor's next round.
func (m *Matrix) Add(name string, c Cell) { m.cells[name] = append(m.cells[name], c) }

// Names returns the competitors' names in their order.
func (m *Matrix) Names() []string { return m.names }

// Median returns the median over the rounds of one figure of a competitor.
func (m *Matrix) Median(name string, figure func(Cell) float64) float64 {
	values := make([]float64, 0, len(m.cells[name]))
	for _, c := range m.cells[name] {
		values = append(values, figure(c))
	}
	return Median(values)
}

// Ratio returns the median over the rounds of a figure of a competitor, divided by the baseline's in the same round. It
// differs from the quotient of the medians where the machine was slower in some rounds than in others.
func (m *Matrix) Ratio(name, baseline string, figure func(Cell) float64) float64 {
	own, base := m.cells[name], m.cells[baseline]
	values := make([]float64, 0, len(own))
	for round := range min(len(own), len(base)) {
		values = append(values, figure(own[round])/figure(base[round]))
	}
	return Median(values)
}
