package source

import "fmt"

// User is what is cached. Its name follows from its ID and version, so that a value which was mixed up with another one's
// shows.
type User struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Version uint64 `json:"version"`
}

var names = [...]string{
	"Ada", "Barbara", "Claude", "Donald", "Edsger", "Frances", "Grace", "Hedy", "Ivan", "John", "Kathleen", "Leslie",
	"Margaret", "Niklaus", "Ole-Johan", "Peter", "Radia", "Shafi", "Tony", "Ursula", "Vint", "Whitfield", "Yukihiro",
}

// UserAt is the one value that a source has for a key at a version.
func UserAt(key string, version uint64) User {
	return User{ID: key, Name: nameOf(key, version), Version: version}
}

func nameOf(key string, version uint64) string {
	h := uint64(14695981039346656037) // FNV-1a
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 1099511628211
	}
	return names[(h+version)%uint64(len(names))]
}

// CheckUser returns an error for a value that no source has ever had for key.
func CheckUser(key string, u User) error {
	switch {
	case u.ID != key:
		return fmt.Errorf("%s: got the value of %q", key, u.ID)
	case u.Version == 0 || u.Name != nameOf(key, u.Version):
		return fmt.Errorf("%s: got %q in version %d, which is %q", key, u.Name, u.Version, nameOf(key, u.Version))
	}
	return nil
}
