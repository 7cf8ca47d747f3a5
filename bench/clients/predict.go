// Arguments: the URL, a file with a small body, a file with a large body.
package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
)

func main() {
	url := os.Args[1]
	small, large := read(os.Args[2]), read(os.Args[3])
	report("small", url, bytes.NewReader(small))
	report("again", url, bytes.NewReader(small))
	report("large", url, bytes.NewReader(large))
	// A reader of unknown length is sent in chunks.
	report("chunked", url, io.MultiReader(bytes.NewReader(large)))

	request, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(large))
	check(err)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Expect", "100-continue")
	response, err := http.DefaultClient.Do(request)
	check(err)
	printResult("expect", response)
}

func report(name string, url string, body io.Reader) {
	response, err := http.Post(url, "application/json", body)
	check(err)
	printResult(name, response)
}

func printResult(name string, response *http.Response) {
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	check(err)
	fmt.Printf("%s\t%d\t%x\n", name, response.StatusCode, sha256.Sum256(content))
}

func read(path string) []byte {
	content, err := os.ReadFile(path)
	check(err)
	return content
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
