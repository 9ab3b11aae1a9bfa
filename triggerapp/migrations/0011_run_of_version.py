
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('triggerapp', '0010_personal_tokens'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='run',
            index=models.Index(condition=models.Q(('version__isnull', False)), fields=['environment', 'version', '-created_at', '-id'], name='run_of_version'),
        ),
    ]
