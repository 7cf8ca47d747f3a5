// The OpenAPI document for a page. All addresses are relative, so that a proxy may add a path prefix.

/** Show the document in an element by a function; show the reason if it cannot be loaded. */
export async function showDocument(show) {
  const element = document.getElementById("docs");
  try {
    const response = await fetch("openapi.json", { headers: { accept: "application/json" } });
    const content = await response.json();
    if (!response.ok) throw new Error(content.error);
    // Without servers, requests would go to the root, also behind a proxy that adds a prefix.
    content.servers ??= [{ url: new URL(".", document.baseURI).pathname }];
    show(content, element);
  } catch (error) {
    element.className = "failed";
    element.textContent = `The document cannot be loaded: ${error.message}`;
  }
}
