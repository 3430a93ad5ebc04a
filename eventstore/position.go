package eventstore

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
)

// Position is a place in the journal: a commit of a partition, and everything before it there.
type Position struct {
	Partition Partition
	Seq       uint64
}

// ErrBadToken: the text is no position token of this ledger.
var ErrBadToken = errors.New("not a position of this ledger")

// Tokens turns positions into opaque text and back. A raw position would tell one tenant how busy the others are. It also
// signs what the ledger hands out and takes back.
type Tokens struct {
	block   cipher.Block
	signing [sha256.Size]byte
}

// NewTokens returns the tokens of the ledger with this secret; every service of the ledger needs the same.
func NewTokens(secret []byte) *Tokens {
	key := sha256.Sum256(append([]byte("position tokens\x00"), secret...))
	block, err := aes.NewCipher(key[:16])
	if err != nil {
		panic(err) // only a wrong key length
	}
	return &Tokens{block: block, signing: sha256.Sum256(append([]byte("signatures\x00"), secret...))}
}

// Sign returns a signature of text that only services of the ledger can make. purpose says what the text is, so that what
// was signed for one cannot be used for another.
func (t *Tokens) Sign(purpose, text string) [16]byte {
	mac := hmac.New(sha256.New, t.signing[:])
	mac.Write([]byte(purpose + "\x00" + text))
	return [16]byte(mac.Sum(nil))
}

// tokenBytes is one AES block: partition, sequence, and zeros by which a forged token is known.
const tokenBytes = aes.BlockSize

// Token returns the text of one or more positions in different partitions: 22 characters each.
func (t *Tokens) Token(positions ...Position) string {
	texts := make([]string, len(positions))
	for i, p := range positions {
		var b [tokenBytes]byte
		binary.BigEndian.PutUint16(b[0:], uint16(p.Partition))
		binary.BigEndian.PutUint64(b[2:], p.Seq)
		t.block.Encrypt(b[:], b[:])
		texts[i] = base64.RawURLEncoding.EncodeToString(b[:])
	}
	return strings.Join(texts, ".")
}

// Parse is the reverse of Token. Errors: ErrBadToken.
func (t *Tokens) Parse(token string) ([]Position, error) {
	var positions []Position
	for text := range strings.SplitSeq(token, ".") {
		b, err := strictBase64.DecodeString(text)
		if err != nil || len(b) != tokenBytes || len(text) != strictBase64.EncodedLen(tokenBytes) {
			return nil, ErrBadToken
		}
		t.block.Decrypt(b, b)
		if [6]byte(b[10:]) != [6]byte{} {
			return nil, ErrBadToken
		}
		positions = append(positions, Position{
			Partition: Partition(binary.BigEndian.Uint16(b[0:])),
			Seq:       binary.BigEndian.Uint64(b[2:]),
		})
	}
	return positions, nil
}
