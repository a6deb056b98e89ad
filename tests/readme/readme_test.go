package readme

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/redisserver"
)

const redisAddr = "localhost:6379" // in the README

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	return string(text)
}

// block returns the first fenced block of the given language after the heading.
func block(t *testing.T, heading, language string) string {
	t.Helper()
	_, rest, ok := strings.Cut(readme(t), "\n## "+heading+"\n")
	require.True(t, ok, "heading %q", heading)
	_, rest, ok = strings.Cut(rest, "\n```"+language+"\n")
	require.True(t, ok, "a block of %q", language)
	text, _, ok := strings.Cut(rest, "\n```")
	require.True(t, ok)
	return text
}

func TestTheProgramPrintsWhatTheReadmeSays(t *testing.T) {
	t.Parallel()
	program, output := block(t, "A program", "go"), block(t, "A program", "text")
	require.Less(t, strings.Count(program, "\n")+1, 30, "it is short")
	require.Contains(t, program, redisAddr)

	m := miniredis.RunT(t)
	require.Equal(t, output, run(t, strings.ReplaceAll(program, redisAddr, m.Addr())))
}

// On a cluster another client is all that it takes.
func TestTheProgramOnACluster(t *testing.T) {
	t.Parallel()
	cluster := redisserver.RunCluster(t, redisserver.ClusterOptions{})
	program, output := block(t, "A program", "go"), block(t, "A program", "text")
	single := `redis.NewClient(&redis.Options{Addr: "` + redisAddr + `"})`
	require.Equal(t, 1, strings.Count(program, single))
	require.Equal(t, 1, strings.Count(program, redisAddr))
	client := fmt.Sprintf("redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{%q}})", cluster.Addrs()[0])
	require.Equal(t, output, run(t, strings.Replace(program, single, client, 1)))
}

// run returns what a program prints.
func run(t *testing.T, program string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "main.go")
	require.NoError(t, os.WriteFile(file, []byte(program), 0o600))
	var stderr bytes.Buffer
	cmd := exec.Command("go", "run", file)
	cmd.Dir, cmd.Stderr = "../..", &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	return strings.TrimSpace(string(out))
}

// Every package, file and test that the README names exists.
func TestWhatTheReadmeNamesExists(t *testing.T) {
	t.Parallel()
	text := readme(t)
	for _, link := range regexp.MustCompile(`\]\(([^)#]+)\)`).FindAllStringSubmatch(text, -1) {
		if strings.Contains(link[1], "://") {
			continue
		}
		_, err := os.Stat(filepath.Join("../..", link[1]))
		require.NoError(t, err)
	}
	for _, run := range regexp.MustCompile(`go (?:run|test) (\./[a-z/]+)`).FindAllStringSubmatch(text, -1) {
		_, err := os.Stat(filepath.Join("../..", strings.TrimSuffix(run[1], "/")))
		require.NoError(t, err, run[0])
	}
}
