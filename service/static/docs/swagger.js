import { showDocument } from "./load.js";

showDocument((spec, element) => {
  window.SwaggerUIBundle({
    spec,
    domNode: element,
    deepLinking: true,
    docExpansion: "none",
    defaultModelsExpandDepth: 0,
    filter: true,
    tryItOutEnabled: true,
    // The badge of a validator would be an image of another host.
    validatorUrl: null,
  });
});
