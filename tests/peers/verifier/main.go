// Verifies a ledger with the Go project's own implementation of transparency logs: the signed checkpoint, every
// tile on the way to every entry, and inclusion and consistency proofs made from the same tiles. It shares no code and
// no author with the ledger. With --bundle, a folder of evidence: single entries, each with a proof of its own.
// Usage: verifier [--bundle] FOLDER PUBLIC-KEY-FILE
package main

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const tileHeight = 8
const tileWidth = 1 << tileHeight

type files struct{ folder string }

func (f files) Height() int                         { return tileHeight }
func (f files) SaveTiles(_ []tlog.Tile, _ [][]byte) {}
func (f files) read(path string) ([]byte, error)    { return os.ReadFile(filepath.Join(f.folder, path)) }

// ReadTiles finds tiles where c2sp.org/tlog-tiles puts them. A partial tile may have been replaced by the full one.
func (f files) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		data, err := f.read(path(strconv.Itoa(tile.L), tile.N, tile.W))
		if err != nil && tile.W < tileWidth {
			data, err = f.read(path(strconv.Itoa(tile.L), tile.N, tileWidth))
		}
		if err != nil {
			return nil, err
		}
		if len(data) < tile.W*tlog.HashSize {
			return nil, fmt.Errorf("tile %v is cut", tile)
		}
		all = append(all, data[:tile.W*tlog.HashSize])
	}
	return all, nil
}

func path(level string, number int64, width int) string {
	name := fmt.Sprintf("%03d", number%1000)
	for number >= 1000 {
		number /= 1000
		name = fmt.Sprintf("x%03d/%s", number%1000, name)
	}
	if width < tileWidth {
		name = fmt.Sprintf("%s.p/%d", name, width)
	}
	return "tile/" + level + "/" + name
}

// entries reads one bundle: each entry after its length in two bytes.
func (f files) entries(number int64, width int) ([][]byte, error) {
	data, err := f.read(path("entries", number, width))
	if err != nil && width < tileWidth {
		data, err = f.read(path("entries", number, tileWidth))
	}
	if err != nil {
		return nil, err
	}
	var all [][]byte
	for len(all) < width {
		if len(data) < 2 || len(data)-2 < int(binary.BigEndian.Uint16(data)) {
			return nil, fmt.Errorf("bundle %d is cut", number)
		}
		length := int(binary.BigEndian.Uint16(data))
		all = append(all, data[2:2+length])
		data = data[2+length:]
	}
	return all, nil
}

// checkpoint opens the signed note and reads its three lines.
func (f files) checkpoint(key string) (tlog.Tree, error) {
	var none tlog.Tree
	verifier, err := note.NewVerifier(strings.TrimSpace(key))
	if err != nil {
		return none, err
	}
	message, err := f.read("checkpoint")
	if err != nil {
		return none, err
	}
	return opened(message, verifier)
}

// strict reads base64 in its one canonical form (RFC 4648, section 3.5): a changed bit of the padding is a change.
var strict = base64.StdEncoding.Strict()

// opened reads the three lines of a note that the key signed.
func opened(message []byte, verifier note.Verifier) (tlog.Tree, error) {
	var none tlog.Tree
	for _, line := range strings.Split(string(message), "\n") {
		signature, found := strings.CutPrefix(line, "\u2014 ")
		_, encoded, _ := strings.Cut(signature, " ")
		if _, err := strict.DecodeString(encoded); found && err != nil {
			return none, fmt.Errorf("a signature is not in canonical form")
		}
	}
	opened, err := note.Open(message, note.VerifierList(verifier))
	if err != nil {
		return none, err
	}
	lines := strings.SplitN(opened.Text, "\n", 4)
	if len(lines) < 4 || lines[0] != verifier.Name() {
		return none, fmt.Errorf("checkpoint of another log: %q", opened.Text)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return none, err
	}
	root, err := strict.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return none, fmt.Errorf("checkpoint without a root hash")
	}
	return tlog.Tree{N: size, Hash: tlog.Hash(root)}, nil
}

func verify(f files, key string) (int64, int, error) {
	tree, err := f.checkpoint(key)
	if err != nil {
		return 0, 0, fmt.Errorf("checkpoint: %w", err)
	}
	// This reader hands out a hash only after it led it to the root.
	reader := tlog.TileHashReader(tree, f)
	for first := int64(0); first < tree.N; first += tileWidth {
		width := tree.N - first
		if width > tileWidth {
			width = tileWidth
		}
		entries, err := f.entries(first/tileWidth, int(width))
		if err != nil {
			return 0, 0, err
		}
		for offset, entry := range entries {
			index := first + int64(offset)
			hashes, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
			if err != nil {
				return 0, 0, fmt.Errorf("entry %d: %w", index, err)
			}
			if hashes[0] != tlog.RecordHash(entry) {
				return 0, 0, fmt.Errorf("entry %d: hash mismatch", index)
			}
		}
	}
	proofs, err := proofs(tree, reader)
	return tree.N, proofs, err
}

// proofs makes and checks proofs for a spread of entries and older sizes.
func proofs(tree tlog.Tree, reader tlog.HashReader) (int, error) {
	count := 0
	step := tree.N/17 + 1
	for index := int64(0); index < tree.N; index += step {
		hashes, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
		if err != nil {
			return count, err
		}
		record, err := tlog.ProveRecord(tree.N, index, reader)
		if err != nil {
			return count, err
		}
		if err := tlog.CheckRecord(record, tree.N, tree.Hash, index, hashes[0]); err != nil {
			return count, fmt.Errorf("inclusion of %d: %w", index, err)
		}
		older, err := tlog.TreeHash(index+1, reader)
		if err != nil {
			return count, err
		}
		growth, err := tlog.ProveTree(tree.N, index+1, reader)
		if err != nil {
			return count, err
		}
		if err := tlog.CheckTree(growth, tree.N, tree.Hash, index+1, older); err != nil {
			return count, fmt.Errorf("consistency with %d: %w", index+1, err)
		}
		count += 2
	}
	return count, nil
}

// bundle checks every entry of a folder of evidence against its proof (C2SP tlog-proof).
func bundle(folder, key string) (int64, int, error) {
	verifier, err := note.NewVerifier(strings.TrimSpace(key))
	if err != nil {
		return 0, 0, err
	}
	names, err := filepath.Glob(filepath.Join(folder, "entries", "*.json"))
	if err != nil || len(names) == 0 {
		return 0, 0, fmt.Errorf("no entries in %s", folder)
	}
	for _, name := range names {
		entry, err := os.ReadFile(name)
		if err != nil {
			return 0, 0, err
		}
		index := strings.TrimSuffix(filepath.Base(name), ".json")
		proof, err := os.ReadFile(filepath.Join(folder, "proofs", index+".tlog-proof"))
		if err != nil {
			return 0, 0, err
		}
		if err := proven(entry, string(proof), index, verifier); err != nil {
			return 0, 0, fmt.Errorf("entry %s: %w", index, err)
		}
	}
	return int64(len(names)), len(names), nil
}

func proven(entry []byte, proof, index string, verifier note.Verifier) error {
	head, signed, found := strings.Cut(proof, "\n\n")
	lines := strings.Split(head, "\n")
	if !found || len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" || lines[1] != "index "+index {
		return fmt.Errorf("not a proof of this index")
	}
	number, err := strconv.ParseInt(index, 10, 64)
	if err != nil {
		return err
	}
	var path tlog.RecordProof
	for _, line := range lines[2:] {
		hash, err := strict.DecodeString(line)
		if err != nil || len(hash) != tlog.HashSize {
			return fmt.Errorf("a line of the proof is no hash")
		}
		path = append(path, tlog.Hash(hash))
	}
	tree, err := opened([]byte(signed), verifier)
	if err != nil {
		return err
	}
	return tlog.CheckRecord(path, tree.N, tree.Hash, number, tlog.RecordHash(entry))
}

func main() {
	arguments, check := os.Args[1:], func(folder, key string) (int64, int, error) { return verify(files{folder}, key) }
	if len(arguments) > 0 && arguments[0] == "--bundle" {
		arguments, check = arguments[1:], bundle
	}
	if len(arguments) != 2 {
		fmt.Fprintln(os.Stderr, "usage: verifier [--bundle] FOLDER PUBLIC-KEY-FILE")
		os.Exit(2)
	}
	key, err := os.ReadFile(arguments[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	size, proofs, err := check(arguments[0], string(key))
	if err != nil {
		fmt.Println("refused:", err)
		os.Exit(1)
	}
	fmt.Printf("verified %d entries, %d proofs\n", size, proofs)
}
